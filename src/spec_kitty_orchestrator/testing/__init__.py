"""Stands in: fakes and builders for tests and for authors of drivers."""
