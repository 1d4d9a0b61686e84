"""Speed and memory of svcdns and of other name servers, measured in one run: `python -m bench`. `docs/performance.md`
describes the method.
"""
