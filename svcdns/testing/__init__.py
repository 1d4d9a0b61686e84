"""Checks for authors of plugins; the server does not import this package.

```python
from svcdns.testing import check_contract
```
"""

from __future__ import annotations

from svcdns.testing.contract import CLIENTS, check_contract

__all__ = ["CLIENTS", "check_contract"]
