"""``python -m ttame`` is ``ttame``."""

from ttame.cli.main import run

if __name__ == "__main__":
    run()
