"""Kilo Code, made from opencode: asks the Chat Completions API of a provider of its configuration."""

from tests.e2e.clis.opencode import configured_as
from tests.e2e.clis.spec import Cli

KEY = "key-of-kilocode-1"

CLI = Cli("kilocode", "kilocode", "@kilocode/cli@7.7.7", KEY, configured_as("kilo", KEY))
