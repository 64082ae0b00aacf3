"""`python -m sgv_data …` is `sgv …`."""

from sgv_data.cli.app import main

if __name__ == "__main__":
    main()
