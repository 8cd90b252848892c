"""The `tris` command: one module per subcommand, imported only when it is asked for."""

import importlib
import sys

COMMANDS = {
    "prepare": "official files of a data set -> an index",
    "predict": "image and sentences -> masks, overlays, JSON",
    "score": "predictions that anyone made -> every metric",
    "convert": "released weights -> a model directory",
    "report": "one or more runs -> a static page",
    "demo": "try a model in the browser",
}


def main() -> None:
    """Run ``tris COMMAND ...``; an unknown command exits with 2."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return
    command = arguments[0]
    if command not in COMMANDS:
        sys.stderr.write(f"error: there is no command {command!r}.\n{_usage()}\n")
        raise SystemExit(2)
    sys.argv[0] = f"tris {command}"
    if "--debug" in arguments:
        sys.argv[1:] = ["--debug"]
        arguments.remove("--debug")
    importlib.import_module(f"tris.cli.{command}").main(arguments[1:])


def _usage() -> str:
    lines = [f"  {name:<9}{purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        ["usage: tris COMMAND ...", "", *lines, "", "tris COMMAND --help lists its options."]
    )


if __name__ == "__main__":
    main()
