from datetime import UTC, date, datetime
from decimal import Decimal

from sqlalchemy.orm import Session

from . import models as m


def fill(session: Session) -> None:
    """Some years of a small shop, told short."""
    north = m.Region(name="North")
    session.add(north)
    session.flush()
    branches = [m.Branch(region_id=north.id, name=name, opened_on=date(2011, 4, 1)) for name in ("Quay", "Hill")]
    session.add_all(branches)
    fruit = m.Category(title="Fruit")
    session.add(fruit)
    session.flush()
    products = [m.Product(category_id=fruit.id, sku=f"A{n:03}", title=f"Apple {n}", tags=["fresh"]) for n in range(12)]
    members = [
        m.Member(branch_id=branches[n % 2].id, user_name=f"grower{n}", full_name=f"Grower {n}") for n in range(20)
    ]
    supplier = m.Supplier(name="Nursery")
    session.add_all([*products, *members, supplier, m.Setting(key="season", value="autumn")])
    session.flush()
    shelf = m.Shelf(branch_id=branches[0].id, label="A1")
    session.add(shelf)
    session.flush()
    for product in products:
        session.add(m.Price(product_id=product.id, valid_from=date(2026, 1, 1), amount=Decimal("2.40")))
        session.add(m.ProductSupplier(product_id=product.id, supplier_id=supplier.id))
        session.add(m.Stock(shelf_id=shelf.id, product_id=product.id, quantity=40))
    for number, member in enumerate(members):
        session.add(m.Address(member_id=member.id, line=f"{number} Orchard Lane", is_default=True))
        basket = m.Basket(member_id=member.id)
        order = m.Order(member_id=member.id, state=m.OrderState.SENT)
        session.add_all([basket, order])
        session.flush()
        product = products[number % 12]
        session.add(m.BasketLine(basket_id=basket.id, product_id=product.id, quantity=2))
        session.add(m.OrderLine(order_id=order.id, product_id=product.id, quantity=3, amount=Decimal("7.20")))
        session.add(m.Delivery(order_id=order.id, carrier="Cart", sent_on=date(2026, 9, 1)))
        total, due = Decimal("7.20"), date(2026, 10, 1)
        invoice = m.Invoice(order_id=order.id, number=f"2026-{number:04}", total=total, due_on=due)
        session.add(invoice)
        session.flush()
        payment = m.Payment(invoice_id=invoice.id, amount=Decimal("7.20"), paid_at=datetime(2026, 9, 20, tzinfo=UTC))
        session.add(payment)
        session.flush()
        if number % 7 == 0:
            session.add(m.Refund(payment_id=payment.id, reason="bruised"))
