"""Speed and memory of svcdns beside other name servers, measured in one run: `python -m bench --help`."""
