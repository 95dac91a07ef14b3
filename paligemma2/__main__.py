"""`python -m paligemma2`."""

from paligemma2.cli.main import main

if __name__ == "__main__":
    main()
