"""Money and assets, case by case."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from tallystick.assets import Asset, AssetKind, asset, assets, register
from tallystick.errors import Invalid
from tallystick.money import (
    CHAIN_MAX,
    FIAT_MAX,
    LEDGER_MAX,
    Money,
    Rounding,
    eur,
    gbp,
    kes,
    money,
    ngn,
    round_ratio,
    sum_of,
    usd,
)

ONE = usd("1")


class TestMaking:
    def test_positional_construction_takes_minor_units(self) -> None:
        made = Money(1250, "USD")
        assert (made.units, made.asset, str(made)) == (1250, "USD", "12.50 USD")

    @pytest.mark.parametrize("units", [12.5, True, False, "12", None, Decimal(12), Fraction(12), 12.0, b"1"])
    def test_constructor_takes_only_an_int(self, units: Any) -> None:
        with pytest.raises(Invalid):
            Money(units, "USD")

    @pytest.mark.parametrize("code", [None, 1, b"USD", 1.5])
    def test_constructor_takes_only_a_text_as_asset(self, code: Any) -> None:
        with pytest.raises(Invalid):
            Money(1, code)

    @pytest.mark.parametrize(
        ("text", "code", "units"),
        [
            ("12.50", "USD", 1250),
            ("12.5", "USD", 1250),
            ("12", "USD", 1200),
            ("-0.01", "USD", -1),
            ("+1", "USD", 100),
            ("-0", "USD", 0),
            ("007", "USD", 700),
            ("1500", "JPY", 1500),
            ("1.234", "KWD", 1234),
            ("1.2345", "CLF", 12345),
            ("1.2345", "UYW", 12345),
            ("92233720368547758.07", "USD", FIAT_MAX),
        ],
    )
    def test_of_text(self, text: str, code: str, units: int) -> None:
        assert Money.of(text, code) == Money(units, code)

    @pytest.mark.parametrize(
        "text",
        ["", " ", "1.", ".5", "1,000.00", "1 000", "1_000", "1e3", "NaN", "nan", "Infinity", "-inf", "0x10", "--1",
         "1.2.3", "12.50 ", " 12.50", "12.50\n", "\uff11\uff12", "\u0663", "1\x00", "$1", "9" * 101, "+", "-", "12.505",
         "12.500"],
    )  # fmt: skip
    def test_of_refuses_text(self, text: str) -> None:
        with pytest.raises(Invalid):
            Money.of(text, "USD")

    def test_a_currency_without_decimals_takes_none(self) -> None:
        with pytest.raises(Invalid, match="more decimals"):
            Money.of("1.0", "JPY")

    @pytest.mark.parametrize(
        "value", [12.5, float("nan"), float("inf"), True, None, Fraction(1, 2), b"1", [], object()]
    )
    def test_of_refuses_other_types(self, value: Any) -> None:
        with pytest.raises(Invalid):
            Money.of(value, "USD")

    @pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity", "1E+999999999", "1E-999999999", "12.505"])
    def test_of_refuses_decimals_that_are_no_amount(self, text: str) -> None:
        with pytest.raises(Invalid):
            Money.of(Decimal(text), "USD")

    def test_of_decimal_takes_what_is_exact(self) -> None:
        assert Money.of(Decimal("12.5000"), "USD") == Money.of(Decimal("1.25E+1"), "USD") == usd("12.50")
        assert Money.of(Decimal("-0"), "USD") == Money.zero("USD")

    def test_of_int_is_whole_units(self) -> None:
        assert Money.of(12, "USD") == Money(1200, "USD")
        assert Money.of(12, "JPY") == Money(12, "JPY")

    def test_of_is_not_bound_by_the_decimal_context(self) -> None:
        register(Asset("TESTWEI", 18))
        big = Money(CHAIN_MAX, "TESTWEI")
        assert Money.of(big.amount, "TESTWEI") == big
        assert Money.parse(str(big)) == big

    @pytest.mark.parametrize(
        "text",
        ["", "12.50", "USD", "USD 12.50", "12.50  USD", "12.50 usd", "12.50\tUSD", " 12.50 USD", "1 2 USD", "1 XXY"],
    )
    def test_parse_refuses(self, text: str) -> None:
        with pytest.raises(Invalid):
            Money.parse(text)

    @pytest.mark.parametrize("value", [None, 12, b"12.50 USD", Money(1, "USD")])
    def test_parse_refuses_other_types(self, value: Any) -> None:
        with pytest.raises(Invalid):
            Money.parse(value)

    def test_helpers(self) -> None:
        assert [str(make("2.5")) for make in (usd, eur, gbp, ngn, kes)] == [
            "2.50 USD", "2.50 EUR", "2.50 GBP", "2.50 NGN", "2.50 KES",
        ]  # fmt: skip
        assert money("2.5", "USD") == usd("2.5")

    def test_an_error_never_repeats_what_was_given(self) -> None:
        for act in (
            lambda: Money.parse("12.50 Jane Doe"),
            lambda: usd("4111111111111111x"),
            lambda: money("1", "Jane Doe"),
        ):
            with pytest.raises(Invalid) as caught:
                act()
            assert "Jane" not in str(caught.value)
            assert "4111" not in str(caught.value)


class TestText:
    @pytest.mark.parametrize(
        ("made", "text"),
        [
            (Money(0, "USD"), "0.00 USD"),
            (Money(5, "USD"), "0.05 USD"),
            (Money(-5, "USD"), "-0.05 USD"),
            (Money(-12345, "USD"), "-123.45 USD"),
            (Money(5, "JPY"), "5 JPY"),
            (Money(5, "BHD"), "0.005 BHD"),
            (Money(10**6, "CLF"), "100.0000 CLF"),
        ],
    )
    def test_str(self, made: Money, text: str) -> None:
        assert str(made) == f"{made}" == text
        assert made.amount == Decimal(text.split(maxsplit=1)[0])

    def test_format_aligns(self) -> None:
        assert f"{usd('1'):>10}|" == "  1.00 USD|"

    def test_repr_never_raises(self) -> None:
        assert repr(Money(5, "no such asset")) == "Money(units=5, asset='no such asset')"

    def test_an_unknown_asset_has_no_text(self) -> None:
        with pytest.raises(Invalid, match="register"):
            str(Money(5, "NOSUCH"))


class TestComparing:
    def test_equality(self) -> None:
        assert Money(1, "USD") == Money(1, "USD")
        assert Money(1, "USD") != Money(1, "EUR")
        assert Money(0, "USD") != 0
        assert hash(Money(1, "USD")) == hash(Money(1, "USD"))
        assert len({Money(1, "USD"), Money(1, "EUR"), Money(1, "USD")}) == 2

    def test_order(self) -> None:
        low, high = usd("1"), usd("2")
        assert low < high
        assert low <= low
        assert high > low
        assert high >= high
        assert sorted([high, low]) == [low, high]
        assert max(low, high) == high

    @pytest.mark.parametrize("act", ["<", "<=", ">", ">=", "+", "-", "//", "%"])
    def test_across_assets(self, act: str) -> None:
        with pytest.raises(Invalid, match="different assets"):
            eval(f"a {act} b", {"a": usd(1), "b": eur(1)})

    @pytest.mark.parametrize("other", [1, 0, 1.5, True, Decimal(1), Fraction(1), "1", None, 1j])
    @pytest.mark.parametrize("act", ["<", "<=", ">", ">=", "+", "-"])
    def test_with_what_is_not_money(self, act: str, other: Any) -> None:
        with pytest.raises(Invalid):
            eval(f"a {act} b", {"a": ONE, "b": other})
        if act == "+" and other == 0 and other.__class__ is int:
            return
        with pytest.raises(Invalid):
            eval(f"b {act} a", {"a": ONE, "b": other})

    def test_a_stranger_gets_its_own_turn(self) -> None:
        class Column:
            def __ge__(self, other: object) -> str:
                return "condition"

            def __radd__(self, other: object) -> str:
                return "expression"

        column: Any = Column()
        assert (ONE <= column) == "condition"  # noqa: SIM300 - the order is what is tested
        assert (ONE + column) == "expression"
        with pytest.raises(TypeError):
            _ = ONE - column

    def test_truth_is_being_more_or_less_than_nothing(self) -> None:
        assert usd("0.01")
        assert usd("-0.01")
        assert not Money.zero("USD")


class TestArithmetic:
    def test_signs(self) -> None:
        assert -usd(1) == Money(-100, "USD")
        assert +usd(1) == usd(1)
        assert abs(usd(-1)) == usd(1)
        assert usd(3) - usd(5) == usd(-2)

    def test_times_an_int(self) -> None:
        assert usd("1.25") * 3 == 3 * usd("1.25") == usd("3.75")

    @pytest.mark.parametrize("factor", [1.5, True, Decimal(2), Fraction(2), "2", None, ONE])
    def test_star_takes_only_an_int(self, factor: Any) -> None:
        with pytest.raises(Invalid):
            _ = ONE * factor
        with pytest.raises(Invalid):
            _ = factor * ONE

    @pytest.mark.parametrize("divisor", [1, 2, ONE, Decimal(2), 0.5])
    def test_there_is_no_true_division(self, divisor: Any) -> None:
        with pytest.raises(Invalid, match="split"):
            _ = ONE / divisor

    def test_floor_division_keeps_the_rest(self) -> None:
        assert divmod(usd("10"), 3) == (usd("3.33"), usd("0.01"))
        assert divmod(usd("10"), usd("3")) == (3, usd("1"))
        assert usd("10") // 3 == usd("3.33")
        assert usd("10") // usd("3") == 3
        assert usd("10") % usd("3") == usd("1")
        assert usd("-10") // 3 == usd("-3.34")

    @pytest.mark.parametrize("divisor", [0, Money(0, "USD"), 1.0, True, Decimal(1), "1", None])
    def test_floor_division_refuses(self, divisor: Any) -> None:
        for act in (ONE.__floordiv__, ONE.__mod__, ONE.__divmod__):
            with pytest.raises(Invalid):
                act(divisor)

    @pytest.mark.parametrize(
        ("rounding", "results"),
        [  # of 0.5, 1.5, 2.5, 0.4, 0.6 and their negatives, the table of the decimal module
            (Rounding.HALF_EVEN, [0, 2, 2, 0, 1, 0, -2, -2, 0, -1]),
            (Rounding.HALF_UP, [1, 2, 3, 0, 1, -1, -2, -3, 0, -1]),
            (Rounding.HALF_DOWN, [0, 1, 2, 0, 1, 0, -1, -2, 0, -1]),
            (Rounding.UP, [1, 2, 3, 1, 1, -1, -2, -3, -1, -1]),
            (Rounding.DOWN, [0, 1, 2, 0, 0, 0, -1, -2, 0, 0]),
            (Rounding.CEILING, [1, 2, 3, 1, 1, 0, -1, -2, 0, 0]),
            (Rounding.FLOOR, [0, 1, 2, 0, 0, -1, -2, -3, -1, -1]),
        ],
    )
    def test_every_rounding(self, rounding: Rounding, results: list[int]) -> None:
        rates = ["0.5", "1.5", "2.5", "0.4", "0.6", "-0.5", "-1.5", "-2.5", "-0.4", "-0.6"]
        assert [Money(1, "USD").times(Decimal(rate), rounding=rounding).units for rate in rates] == results
        assert [round_ratio(int(Decimal(rate) * -10), -10, rounding) for rate in rates] == results

    def test_times_needs_a_rounding(self) -> None:
        with pytest.raises(TypeError):
            ONE.times(Decimal(1))  # type: ignore[call-arg]
        for rounding in ("half_even", None, "ROUND_HALF_EVEN", 1):
            with pytest.raises(Invalid):
                ONE.times(Decimal(1), rounding=rounding)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "rate", [0.05, True, "0.05", None, ONE, *map(Decimal, ["NaN", "Infinity", "1E+999999999"])]
    )
    def test_times_refuses(self, rate: Any) -> None:
        with pytest.raises(Invalid):
            ONE.times(rate, rounding=Rounding.UP)

    def test_times_is_exact_before_it_rounds(self) -> None:
        assert usd("0.03").times(Fraction(1, 3), rounding=Rounding.DOWN) == usd("0.01")
        assert usd("100").times(Decimal("0.125"), rounding=Rounding.HALF_EVEN) == usd("12.50")
        assert Money(10**70, "USD").times(Decimal("1." + "0" * 69 + "1"), rounding=Rounding.DOWN).units == 10**70 + 1

    def test_round_ratio_refuses_zero(self) -> None:
        with pytest.raises(Invalid):
            round_ratio(1, 0, Rounding.DOWN)


class TestSharing:
    def test_split_gives_the_spare_units_to_the_first(self) -> None:
        assert usd("10").split(3) == [usd("3.34"), usd("3.33"), usd("3.33")]
        assert usd("-10").split(3) == [usd("-3.34"), usd("-3.33"), usd("-3.33")]
        assert usd("0.02").split(3) == [usd("0.01"), usd("0.01"), usd(0)]

    @pytest.mark.parametrize("parts", [0, -1, 1.0, True, "2", None])
    def test_split_refuses(self, parts: Any) -> None:
        with pytest.raises(Invalid):
            ONE.split(parts)

    def test_allocate_by_largest_remainder(self) -> None:
        # 1.00 over 1:2:4 is 14.28…, 28.57…, 57.14…: the one spare cent goes to the middle.
        assert [part.units for part in ONE.allocate([1, 2, 4])] == [14, 29, 57]
        assert [part.units for part in ONE.allocate([Decimal("0.5"), Fraction(1, 2)])] == [50, 50]
        assert [part.units for part in ONE.allocate([0, 1, 0])] == [0, 100, 0]
        assert [part.units for part in Money(-1, "USD").allocate([1, 1])] == [-1, 0]
        # Remainders are compared across denominators: 2/3 of a unit against 1/3.
        assert [part.units for part in Money(1, "USD").allocate([Fraction(1, 3), Fraction(2, 3)])] == [0, 1]

    @pytest.mark.parametrize(
        "weights",
        [
            [],
            [0],
            [0, 0],
            [1, -1],
            [-1],
            [0.5, 0.5],
            [True],
            ["1"],
            [None],
            [Decimal("NaN")],
            [Decimal("Infinity")],
            [ONE],
        ],
    )
    def test_allocate_refuses(self, weights: Any) -> None:
        with pytest.raises(Invalid):
            ONE.allocate(weights)

    def test_sums(self) -> None:
        assert sum([usd(1), usd(2)]) == usd(3)
        assert sum([]) == 0
        assert sum([usd(1), usd(2)], usd(0)) == usd(3)
        assert sum_of([usd(1), usd(2)]) == usd(3)
        assert sum_of(iter([]), asset="USD") == Money.zero("USD")
        assert sum_of((usd(n) for n in range(3)), asset="USD") == usd(3)

    def test_sums_refuse(self) -> None:
        mixed = [usd(1), eur(1)]
        numbers: Any = [usd(1), 1]
        for act in (
            lambda: sum(mixed), lambda: sum_of(mixed), lambda: sum_of([usd(1)], asset="EUR"), lambda: sum_of([]),
            lambda: sum_of(numbers), lambda: sum([usd(1)], 1), lambda: sum([usd(1)], False), lambda: sum([usd(1)], 0.0),
        ):  # fmt: skip
            with pytest.raises(Invalid):
                act()


class TestAsAValue:
    def test_frozen(self) -> None:
        with pytest.raises(AttributeError):
            ONE.units = 5  # type: ignore[misc]

    def test_copies_and_json(self) -> None:
        assert copy.deepcopy(ONE) == pickle.loads(pickle.dumps(ONE)) == ONE
        huge = Money(CHAIN_MAX, "USDC")
        assert msgspec.json.decode(msgspec.json.encode(huge), type=Money) == huge

    @pytest.mark.parametrize("units", ["1.0", "1e3", "true", '"1"', "null", "NaN"])
    def test_json_takes_only_integers(self, units: str) -> None:
        with pytest.raises((msgspec.ValidationError, msgspec.DecodeError)):
            msgspec.json.decode(f'{{"units":{units},"asset":"USD"}}', type=Money)

    def test_limits(self) -> None:
        assert FIAT_MAX == 9223372036854775807
        assert len(str(LEDGER_MAX)) == 38
        assert set(str(LEDGER_MAX)) == {"9"}
        assert CHAIN_MAX.bit_length() == 256
        assert CHAIN_MAX & (CHAIN_MAX + 1) == 0


class TestAssets:
    @pytest.mark.parametrize(
        ("codes", "exponent"),
        [
            ("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF", 0),
            ("USD EUR GBP NGN KES GHS ZAR INR BRL CHF MGA MRU XCG ZWG SLE VED XAD", 2),
            ("BHD IQD JOD KWD LYD OMR TND", 3),
            ("CLF UYW", 4),
        ],
    )
    def test_exponents(self, codes: str, exponent: int) -> None:
        assert {asset(code).exponent for code in codes.split()} == {exponent}
        assert {asset(code).kind for code in codes.split()} == {AssetKind.FIAT}

    def test_the_table_is_the_published_one_in_size(self) -> None:
        fiat = [known for known in assets() if known.kind is AssetKind.FIAT and len(known.code) == 3]
        assert len(fiat) >= 165
        assert [known.code for known in assets()] == sorted(known.code for known in assets())

    @pytest.mark.parametrize("code", ["HRK", "ZWL", "SLL", "ANG", "XAU", "XXX", "usd", "", "US", None, 5, [], "U" * 99])
    def test_unknown_codes(self, code: Any) -> None:
        with pytest.raises(Invalid):
            asset(code)

    def test_register(self) -> None:
        token = Asset("TESTUSDC", 6)
        assert register(token) == register(Asset("TESTUSDC", 6)) == asset("TESTUSDC")
        assert str(Money(1_500_000, "TESTUSDC")) == "1.500000 TESTUSDC"
        assert token in assets()

    @pytest.mark.parametrize(
        "clash", [Asset("USD", 6), Asset("usd", 2), Asset("Usd", 2, AssetKind.FIAT), Asset("EUR", 2)]
    )
    def test_register_refuses_another_meaning(self, clash: Asset) -> None:
        before = assets()
        with pytest.raises(Invalid, match="taken"):
            register(clash)
        assert assets() == before

    @pytest.mark.parametrize(
        "build",
        [
            lambda: Asset("", 2),
            lambda: Asset("A", 2),
            lambda: Asset("A" * 33, 2),
            lambda: Asset("US D", 2),
            lambda: Asset("ÜSD", 2),
            lambda: Asset("1INCH", 18),
            lambda: Asset(None, 2),  # type: ignore[arg-type]
            lambda: Asset("TOK", -1),
            lambda: Asset("TOK", 78),
            lambda: Asset("TOK", True),
            lambda: Asset("TOK", 2.0),  # type: ignore[arg-type]
            lambda: Asset("TOK", 2, "stock"),  # type: ignore[arg-type]
        ],
    )
    def test_declared_wrongly(self, build: Any) -> None:
        with pytest.raises(Invalid):
            build()
