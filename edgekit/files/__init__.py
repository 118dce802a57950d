"""The border: everything that is read from or written to disk passes through this room.

tables.py       TOML and JSON <-> frozen values; unknown keys refused
digests.py      digests of files, trees and values
directories.py  output directories that appear whole or not at all
manifests.py    manifest.json of models, artifacts and reports
"""
