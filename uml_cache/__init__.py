"""Feature stores: written once by frozen encoders, mapped into memory, fed to training in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_cache.lazy import lazy_exports

if TYPE_CHECKING:
    from uml_cache.errors import InputError, WorkError
    from uml_cache.exchange.exporting import export_features
    from uml_cache.exchange.importing import import_features
    from uml_cache.reading.features import FeatureSet, TokenAccess, open_features
    from uml_cache.store.catalogue import StoreInfo, find_stores, store_info
    from uml_cache.store.feature_store import FeatureStore
    from uml_cache.store.journal import FailedRow
    from uml_cache.store.plan import StorePlan, store_path
    from uml_cache.store.planning import create_or_resume, recorded_plan, recorded_token_counts
    from uml_cache.store.verification import VerifyReport, verify

_HOME = {
    "FailedRow": "store.journal",
    "FeatureSet": "reading.features",
    "FeatureStore": "store.feature_store",
    "InputError": "errors",
    "StoreInfo": "store.catalogue",
    "StorePlan": "store.plan",
    "TokenAccess": "reading.features",
    "VerifyReport": "store.verification",
    "WorkError": "errors",
    "create_or_resume": "store.planning",
    "export_features": "exchange.exporting",
    "find_stores": "store.catalogue",
    "import_features": "exchange.importing",
    "open_features": "reading.features",
    "recorded_plan": "store.planning",
    "recorded_token_counts": "store.planning",
    "store_info": "store.catalogue",
    "store_path": "store.plan",
    "verify": "store.verification",
}

__all__ = [
    "FailedRow",
    "FeatureSet",
    "FeatureStore",
    "InputError",
    "StoreInfo",
    "StorePlan",
    "TokenAccess",
    "VerifyReport",
    "WorkError",
    "create_or_resume",
    "export_features",
    "find_stores",
    "import_features",
    "open_features",
    "recorded_plan",
    "recorded_token_counts",
    "store_info",
    "store_path",
    "verify",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOME)
