"""Programs under measurement. Each speaks the lines that `benches/floor/src/main.rs` describes."""
