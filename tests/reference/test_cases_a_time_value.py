"""Cases A: the time value of money, against numbers published with numpy-financial, MathWorks and Affirm.

Source of 1 to 14: numpy-financial f47e8af289f9, tests/test_financial.py and the docstrings of _financial.py. Those
without a number are others of the same file. Single-precision results are compared to the digits that are printed.
"""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from tallystick.domains.lending.tvm import When, fv, ipmt, irr, mirr, nper, npv, pmt, pmt_odd_first, ppmt, pv, rate
from tallystick.errors import Invalid

MONTHLY_8 = D("0.08") / 12
MONTHLY_10 = D("0.1") / 12


def close(got: D, wanted: str) -> None:
    """Equal to the last digit printed."""
    assert abs(got - D(wanted)) <= D(1).scaleb(D(wanted).as_tuple().exponent), got


def test_1_payment_to_every_digit() -> None:
    assert pmt(MONTHLY_8, 60, 15000) == D("-304.1459143262052370338701494")


def test_2_payment_without_interest() -> None:
    assert pmt(0, 60, 15000) == -250


def test_3_mortgage_payment() -> None:
    close(pmt(D("0.075") / 12, 180, 200000), "-1854.024720005")


@pytest.mark.parametrize(
    ("each", "periods", "borrowed", "wanted"),
    [
        ("0", 12, 2000, "-166.6666666666666666666666667"),
        ("0.8", 3, 20000, "-19311.25827814569536423841060"),
        ("0.3", 12, 2000, "-626.9081401700757748402586600"),
    ],
)
def test_payments_of_the_same_test(each: str, periods: int, borrowed: int, wanted: str) -> None:
    assert pmt(D(each), periods, borrowed) == D(wanted)


def test_5_principal_of_the_first_payment_to_every_digit() -> None:
    assert ppmt(MONTHLY_10, 1, 60, 55000) == D("-710.2541257864217612489830917")


@pytest.mark.parametrize(("per", "wanted"), [(1, "-75.62318601"), (2, "-76.25337923"), (3, "-76.88882405")])
def test_principal_of_later_payments(per: int, wanted: str) -> None:
    close(ppmt(MONTHLY_10, per, 24, 2000), wanted)


def test_principal_when_paid_at_the_beginning() -> None:
    close(ppmt(MONTHLY_10, 1, 60, 55000, 0, When.BEGIN), "-1158.929712")
    close(ppmt(MONTHLY_8, 1, 60, 15000, 0, When.BEGIN), "-302.131703")
    close(ppmt(MONTHLY_8, 1, 60, 15000), "-204.145914")


@pytest.mark.parametrize(
    ("per", "wanted"), [(1, "-16.66666667"), (2, "-16.03647345"), (3, "-15.40102862"), (4, "-14.76028842")]
)
def test_7_interest_of_payments(per: int, wanted: str) -> None:
    close(ipmt(MONTHLY_10, per, 24, 2000), wanted)


@pytest.mark.parametrize(("per", "wanted"), [(1, "0"), (2, "-594.107158"), (3, "-592.971592")])
def test_interest_when_paid_at_the_beginning(per: int, wanted: str) -> None:
    close(ipmt(D("0.001988079518355057"), per, 360, 300000, 0, When.BEGIN), wanted)


@pytest.mark.parametrize("per", [0, -1, 25])
def test_there_is_no_payment_before_the_first_or_after_the_last(per: int) -> None:
    with pytest.raises(Invalid, match="no such payment"):
        ipmt(MONTHLY_10, per, 24, 2000)


def test_9_numbers_of_periods() -> None:
    close(nper(D("0.075"), -2000, 0, 100000), "21.5449442")
    close(nper(D("0.075"), -2000, 0, 100000, When.BEGIN), "20.76156441")
    assert nper(0, -2000, 0, 100000) == 50
    close(nper(D("0.07") / 12, -150, 8000), "64.07335")
    close(nper(D("0.1"), 0, -500, 1500), "11.52670461")
    assert nper(0, -100, 1000) == 10


def test_payments_of_nothing_never_end() -> None:
    with pytest.raises(Invalid, match="never reach"):
        nper(0, 0, 1000)
    with pytest.raises(Invalid, match="never reach"):
        nper(D("0.01"), -100, 10000)


def test_11_rate() -> None:
    # The published digits after the eleventh are where an iteration stopped; the root is (20/7)^(1/10) - 1.
    got = rate(10, 0, -3500, 10000)
    assert abs(got - D("0.1106908537142689284704528100")) < D("1e-11")
    assert abs((1 + got) ** 10 - D(20) / 7) < D("1e-25")


@pytest.mark.parametrize(
    ("now", "later", "wanted"),
    [("-593.06", "214.07", "-0.39920185"), ("-4725.38", "4509.97", "-0.02305873"), ("-428.78", "686.29", "0.26513414")],
)
def test_rates_below_and_above_zero(now: str, later: str, wanted: str) -> None:
    close(rate(2, 0, D(now), D(later)), wanted)


@pytest.mark.parametrize("when", When)
def test_what_is_only_received_has_no_rate(when: When) -> None:
    with pytest.raises(Invalid, match="No rate"):
        rate(12, 400, 10000, 5000, when)
    with pytest.raises(Invalid, match="No rate"):
        rate(2, 0, D("-13.65"), D("-329.67"), when)


def test_13_net_present_value() -> None:
    close(npv(D("0.08"), [-40000, 5000, 8000, 12000, 30000]), "3065.22267")
    close(npv(D("0.05"), [-15000, 1500, 2500, 3500, 4500, 6000]), "122.89")


def test_present_and_future_values() -> None:
    assert pv(D("0.07"), 20, 12000) == D("-127128.1709461939327295222005")
    close(fv(D("0.075"), 20, -2000, 0), "86609.36267304300040536731624")
    close(fv(D("0.075"), 20, -2000, 0, When.BEGIN), "93105.064874")
    close(fv(D("0.05") / 12, 120, -100, -100), "15692.92889434")
    close(fv(D("0.2"), 5, 100, 0, When.BEGIN), "-892.992000")
    assert fv(0, 5, 100, 0) == -500


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([-100, 39, 59, 55, 20], "0.28095"),
        ([-100, 0, 0, 74], "-0.0955"),
        ([-100, 100, 0, -7], "-0.0833"),
        ([-100, 100, 0, 7], "0.06206"),
        ([-5, D("10.5"), 1, -8, 1, 0, 0, 0], "0.0886"),
        ([-150000, 15000, 25000, 35000, 45000, 60000], "0.0524"),
    ],
)
def test_internal_rates_of_return(values: list[int | D], wanted: str) -> None:
    got = irr(values)
    close(got, wanted)
    assert abs(npv(got, values)) < D("1e-15")


def test_modified_rates_of_return() -> None:
    close(mirr([-4500, -800, 800, 800, 600, 600, 800, 800, 700, 3000], D("0.08"), D("0.055")), "0.0666")
    close(mirr([-120000, 39000, 30000, 21000, 37000, 46000], D("0.10"), D("0.12")), "0.126094")
    close(mirr([100, 200, -50, 300, -200], D("0.05"), D("0.06")), "0.3428")


@pytest.mark.parametrize("values", [[1, 2, 3], [-1, -2, -3], [], [0, 0]])
def test_flows_of_one_sign_have_no_return(values: list[int]) -> None:
    with pytest.raises(Invalid):
        irr(values)


CASE_14 = {
    1: ("200.58", "17.17", "2299.42"),
    2: ("201.96", "15.79", "2097.46"),
    3: ("203.35", "14.40", "1894.11"),
    5: ("206.15", "11.60", "1483.22"),
    7: ("208.99", "8.76", "1066.67"),
    8: ("210.42", "7.32", "856.25"),
    9: ("211.87", "5.88", "644.38"),
    11: ("214.79", "2.96", "216.26"),
}


def test_14_a_table_of_unrounded_arithmetic() -> None:
    each, balance, interest = D("0.0824") / 12, D(2500), D(0)
    for per in range(1, 13):
        paid, charged = -ppmt(each, per, 12, 2500), -ipmt(each, per, 12, 2500)
        balance -= paid
        interest += charged
        if per in CASE_14:
            assert tuple(str(round(value, 2)) for value in (paid, charged, balance)) == CASE_14[per]
    assert round(interest, 2) == D("112.98")
    assert abs(balance) < D("1e-20")
    close(pmt(each, 12, 2500), "-217.7486")


def test_15_an_odd_first_period() -> None:
    close(pmt_odd_first(D("0.11") / 12, 24, 4000, 36), "-186.7731")
    level = pmt(D("0.11") / 12, 24, 4000)
    assert abs(pmt_odd_first(D("0.11") / 12, 24, 4000, 30) - level) < D("1e-20")


def test_17_a_disclosed_payment() -> None:
    assert round(pmt(D("0.10") / 12, 12, 500), 2) == D("-43.96")
