"""Print the settings of pip that another installer needs, one ``name=value`` a line.

pip merges its files and its environment; ``pip config list`` shows the result. Addresses of extra
indexes are left out: an extra index that cannot be reached costs every package its retries.
"""

import ast
import subprocess
import sys

SETTINGS = ("index-url", "find-links", "cert", "proxy")
SECTIONS = (":env:", "install", "global")  # the first that names a setting wins


def read_settings(listing: str) -> dict[str, str]:
    """The wanted settings out of what ``pip config list`` prints (``section.name='value'``)."""
    found: dict[tuple[str, str], str] = {}
    for line in listing.splitlines():
        key, _, quoted = line.partition("=")
        section, _, name = key.rpartition(".")
        try:
            found[section, name] = str(ast.literal_eval(quoted))
        except (SyntaxError, ValueError):
            continue
    settings = {}
    for name in SETTINGS:
        values = [found[section, name] for section in SECTIONS if (section, name) in found]
        if values:
            settings[name] = ",".join(values[0].split()) if name == "find-links" else values[0]
    return settings


def main() -> None:
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for name, value in read_settings(listing).items():
        print(f"{name}={value}")


if __name__ == "__main__":
    main()
