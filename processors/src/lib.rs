//! Stateful processors: rollups (windows in SQL) and rules
