"""``python -m bench.cpu``: the engine, its peers and the floor in one table."""

# Worker processes import this module again, so it imports nothing until it is the command.

if __name__ == "__main__":
    import sys

    from bench.command import main

    sys.exit(main())
