"""What the data means: entities, enums, state machines and operations, one folder a domain."""
