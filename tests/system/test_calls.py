import sys
from types import ModuleType

import pytest

from vdc.system.calls import make_callable


def test_a_package_is_called_like_its_function(monkeypatch):
    package, module = ModuleType("shop.pay"), ModuleType("shop.pay.pay")
    module.pay = lambda coins, tip=0: coins + tip
    monkeypatch.setitem(sys.modules, "shop.pay", package)
    with pytest.raises(TypeError, match="not callable"):
        package(3)
    make_callable("shop.pay")
    monkeypatch.setitem(sys.modules, "shop.pay.pay", module)
    assert package(3, tip=1) == 4
