"""Where an index may lie: in a folder, or in Milvus, here Milvus Lite: a file, no server."""

from importlib.util import find_spec

import pytest

lite = pytest.mark.skipif(
    not (find_spec("pymilvus") and find_spec("milvus_lite")),
    reason="needs pymilvus and milvus-lite: pip install 'goodeye[milvus]' milvus-lite",
)
quiet = pytest.mark.filterwarnings("ignore")  # of the libraries behind Milvus Lite
everywhere = pytest.mark.parametrize("where", ["i", pytest.param("i.db", marks=(lite, quiet))])
