"""Measures speed and memory of svcdns and of other name servers in one run: `python -m bench`.

`docs/performance.md` describes the method.
"""
