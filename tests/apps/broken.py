"""An application that can't be imported."""

raise RuntimeError("broken at import")
