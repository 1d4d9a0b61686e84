"""A change source: the cluster as YAML files and folders say it, and every later edit of them.

It begins with a full list of each kind; when a file has changed it tells the differences only. A file that is broken at the start is
an error; one that breaks later is logged once, with file and line, and the last good state stays until the file is good again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put
from svcdns.cluster.objects import ClusterObject, EndpointSlice
from svcdns.cluster.sources.label_selectors import check_label_selector
from svcdns.cluster.sources.manifests.cluster import Cluster, Key, Reader, Selection, build
from svcdns.cluster.sources.manifests.errors import ManifestError
from svcdns.cluster.sources.manifests.files import Found, find
from svcdns.cluster.sources.manifests.selecting import matcher
from svcdns.cluster.sources.manifests.watching import Watch, folder_changes
from svcdns.cluster.sources.options import SourceError
