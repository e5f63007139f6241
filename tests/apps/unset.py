"""An application that raises what the importer itself raises for names that are none."""

raise ValueError("SECRET_KEY is not set")
