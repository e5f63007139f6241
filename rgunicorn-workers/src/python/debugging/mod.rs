//! What is for development only: `--reload` and `--spew`.

pub(super) mod reload;
mod spew;

pub(super) use spew::Spew;
