"""The paper's linear theory (section 3.1, appendix C), computed: what samples of a second modality are
worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_cache.lazy import lazy_exports

if TYPE_CHECKING:
    from uml_evaluate.theory.linear import (
        Design,
        ExchangeRates,
        exchange_rates,
        fitted_design,
        identifiable,
        information,
        is_fisher_orthogonal,
        samples_replaced,
        shared_information,
        variance,
    )
    from uml_evaluate.theory.statements import (
        Check,
        adding_never_hurts,
        blind_direction_as_printed,
        blind_direction_corrected,
        common_eigenvector_contracts,
        identifiable_direction_as_printed,
        information_adds,
        monotone_pseudo_inverse,
        one_sample_worth_more,
        strict_order_as_printed,
        strictly_better,
        variance_of_copies,
    )

_HOME = {
    "Check": "statements",
    "Design": "linear",
    "ExchangeRates": "linear",
    "adding_never_hurts": "statements",
    "blind_direction_as_printed": "statements",
    "blind_direction_corrected": "statements",
    "common_eigenvector_contracts": "statements",
    "exchange_rates": "linear",
    "fitted_design": "linear",
    "identifiable": "linear",
    "identifiable_direction_as_printed": "statements",
    "information": "linear",
    "information_adds": "statements",
    "is_fisher_orthogonal": "linear",
    "monotone_pseudo_inverse": "statements",
    "one_sample_worth_more": "statements",
    "samples_replaced": "linear",
    "shared_information": "linear",
    "strict_order_as_printed": "statements",
    "strictly_better": "statements",
    "variance": "linear",
    "variance_of_copies": "statements",
}

__all__ = [
    "Check",
    "Design",
    "ExchangeRates",
    "adding_never_hurts",
    "blind_direction_as_printed",
    "blind_direction_corrected",
    "common_eigenvector_contracts",
    "exchange_rates",
    "fitted_design",
    "identifiable",
    "identifiable_direction_as_printed",
    "information",
    "information_adds",
    "is_fisher_orthogonal",
    "monotone_pseudo_inverse",
    "one_sample_worth_more",
    "samples_replaced",
    "shared_information",
    "strict_order_as_printed",
    "strictly_better",
    "variance",
    "variance_of_copies",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOME)
