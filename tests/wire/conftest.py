"""Every wire test that asks for `codec` runs once on each implementation of msgpack."""

import pytest

from wirepair import CODECS


@pytest.fixture(params=list(CODECS))
def codec(request):
    return CODECS[request.param]
