"""Runs attempts on the machines of a cluster; a workspace travels there and back as git.

The *coordinator* owns the repository and all promises. A *machine* has git, the agents' programs and a disk
of its own, and no access to the repository.
"""
