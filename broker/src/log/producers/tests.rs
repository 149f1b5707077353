//! Sequences, epochs, transactions: what is judged and what is remembered.
