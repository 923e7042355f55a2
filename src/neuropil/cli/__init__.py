"""The command line: `app` finds the command, `runner` runs recipes, `commands/` has a file for each command."""

from neuropil.cli.app import main as main
