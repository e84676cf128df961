"""A page over HTTP, end to end: FastAPI with Tallystick beside FastAPI with the SQLAlchemy ORM and pydantic."""
