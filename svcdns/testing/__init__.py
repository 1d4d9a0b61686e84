"""Checks for authors of plugins; nothing of the server imports this.

```python
from svcdns.testing import check_contract
```
"""

from __future__ import annotations

from svcdns.testing.contract import CLIENTS, check_contract

__all__ = ["CLIENTS", "check_contract"]
