"""BG/NBD and Gamma-Gamma against the published fit of CDNOW, and against their printed formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import hyp2f1

from cdp.segments.builtins import bg_nbd, churn_model, gamma_gamma
from tests.support.cdnow import read_customers


@pytest.fixture(scope="module")
def customers() -> dict[str, Any]:
    return read_customers()


@pytest.fixture(scope="module")
def purchases(customers: dict[str, Any]) -> bg_nbd.PurchaseModel:
    model = bg_nbd.fit_purchases(customers["x"], customers["t_x"], customers["T"])
    assert model is not None
    return model


def test_purchases_are_fitted_as_published(purchases: bg_nbd.PurchaseModel) -> None:
    found = (purchases.r, purchases.alpha, purchases.a, purchases.b)
    assert found == pytest.approx((0.2426, 4.4136, 0.7929, 2.4259), abs=2e-4)
    assert purchases.log_likelihood == pytest.approx(-9582.43, abs=0.01)


def test_spend_is_fitted_as_published(customers: dict[str, Any]) -> None:
    model = gamma_gamma.fit_spend(customers["x"], customers["zbar"])
    assert model is not None
    assert (model.p, model.q, model.v) == pytest.approx((6.2496, 3.7442, 15.4435), rel=1e-3)
    assert model.customers == 946


def test_a_unit_of_time_changes_alpha_alone(customers: dict[str, Any]) -> None:
    x, t_x, age = (customers[name] for name in ("x", "t_x", "T"))
    weeks, days = bg_nbd.fit_purchases(x, t_x, age), bg_nbd.fit_purchases(x, t_x * 7, age * 7)
    assert weeks is not None
    assert days is not None
    assert days.alpha == pytest.approx(weeks.alpha * 7, rel=1e-3)
    assert (days.r, days.a, days.b) == pytest.approx((weeks.r, weeks.a, weeks.b), rel=1e-3)


def test_the_expectation_is_the_published_one(purchases: bg_nbd.PurchaseModel) -> None:
    one = (np.array([2.0]), np.array([30.43]), np.array([38.86]))
    assert bg_nbd.expected_purchases(purchases, 39, *one)[0] == pytest.approx(1.226, abs=1e-3)
    x, t_x, age = one
    r, alpha, a, b = purchases.r, purchases.alpha, purchases.a, purchases.b
    z = 39 / (alpha + age + 39)
    printed = (a + b + x - 1) / (a - 1)
    printed *= 1 - ((alpha + age) / (alpha + age + 39)) ** (r + x) * hyp2f1(
        r + x, b + x, a + b + x - 1, z
    )
    printed *= bg_nbd.p_alive(purchases, x, t_x, age)
    assert bg_nbd.expected_purchases(purchases, 39, *one) == pytest.approx(printed)


def test_whoever_bought_once_is_alive(purchases: bg_nbd.PurchaseModel) -> None:
    alive = bg_nbd.p_alive(purchases, np.array([0.0]), np.array([0.0]), np.array([500.0]))
    assert alive[0] == 1


def test_a_frequent_customer_who_fell_silent_is_gone_and_nothing_overflows(
    purchases: bg_nbd.PurchaseModel,
) -> None:
    history = (np.array([5000.0]), np.array([100.0]), np.array([5000.0]))
    with np.errstate(over="raise", invalid="raise"):
        alive = bg_nbd.p_alive(purchases, *history)
        expected = bg_nbd.expected_purchases(purchases, 52, *history)
    assert alive[0] < 1e-9
    assert 0 <= expected[0] < 1e-6


def test_what_shows_no_pattern_is_not_fitted() -> None:
    nothing = np.zeros(10)
    assert bg_nbd.fit_purchases(nothing, nothing, np.ones(10)) is None
    assert gamma_gamma.fit_spend(nothing, nothing) is None


def test_the_expected_value_lies_between_the_own_and_the_common_mean() -> None:
    model = gamma_gamma.SpendModel(6.25, 3.74, 15.44)
    common = model.p * model.v / (model.q - 1)
    found = gamma_gamma.expected_value(
        model, np.array([0.0, 1.0, 1000.0]), np.array([np.nan, 90.0, 90.0])
    )
    assert found[0] == pytest.approx(common)
    assert common < found[1] < found[2]
    assert found[2] == pytest.approx(90, rel=0.01)


def test_without_a_common_mean_a_first_order_says_nothing() -> None:
    model = gamma_gamma.SpendModel(6.25, 0.9, 15.44)
    assert np.isnan(gamma_gamma.expected_value(model, np.array([0.0]), np.array([np.nan])))[0]


def test_churn_is_learned_at_one_time_and_tried_at_the_next() -> None:
    chance = np.random.default_rng(1)

    def moment(size: int) -> churn_model.Moment:
        since = chance.uniform(0, 200, size)
        churned = chance.uniform(size=size) < since / 200
        ones = np.ones(size)
        features = churn_model.make_features(since, 3 * ones, since + 100, 1000 * ones)
        return churn_model.Moment(features, churned)

    earlier, later = moment(2000), moment(2000)
    fitted, shown = churn_model.train(earlier, later)

    # Of uniform days, and a chance that rises with them, no order of people can do better: 5/6.
    assert shown["auc"] == pytest.approx(5 / 6, abs=0.03)
    assert shown["predicted"] == pytest.approx(shown["observed"], abs=0.05)
    assert (shown["trained_on"], shown["tried_on"]) == (2000, 2000)
    foretold = churn_model.predict(fitted, later.features)
    assert np.corrcoef(foretold, later.features[:, 0])[0, 1] > 0.9


def test_too_few_people_teach_nothing() -> None:
    few = churn_model.Moment(np.zeros((10, 6)), np.zeros(10, dtype=bool))
    one_sided = churn_model.Moment(np.zeros((500, 6)), np.zeros(500, dtype=bool))
    assert few.find_missing("then")
    assert one_sided.find_missing("then")
