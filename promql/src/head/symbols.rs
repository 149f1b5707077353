//! Names and values of labels, each kept once.

use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashTable;

/// A text by its number.
pub(super) type Symbol = u32;

/// Texts in use, and how often.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    texts: Vec<(Arc<str>, u32)>,
    by_text: HashTable<Symbol>,
    free: Vec<Symbol>,
    hasher: RandomState,
}

impl Symbols {
    /// The symbol of a text, if anybody uses it.
    pub(super) fn find(&self, text: &str) -> Option<Symbol> {
        let found = self.by_text.find(self.hasher.hash_one(text), |symbol| **self.text(*symbol) == *text);
        found.copied()
    }

    /// The symbol of a text, for one more use of it.
    pub(super) fn take(&mut self, text: &Arc<str>) -> Symbol {
        if let Some(symbol) = self.find(text) {
            self.texts[symbol as usize].1 += 1;
            return symbol;
        }
        let entry = (Arc::clone(text), 1);
        let symbol = match self.free.pop() {
            Some(symbol) => {
                self.texts[symbol as usize] = entry;
                symbol
            }
            None => {
                self.texts.push(entry);
                // More than 2^32 texts do not fit into memory.
                u32::try_from(self.texts.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let (texts, hasher) = (&self.texts, &self.hasher);
        let hash = |symbol: &Symbol| hasher.hash_one(&*texts[*symbol as usize].0);
        self.by_text.insert_unique(hash(&symbol), symbol, hash);
        symbol
    }

    /// One use less.
    pub(super) fn give_back(&mut self, symbol: Symbol) {
        let (text, uses) = &mut self.texts[symbol as usize];
        *uses -= 1;
        if *uses == 0 {
            let hash = self.hasher.hash_one(&**text);
            if let Ok(entry) = self.by_text.find_entry(hash, |other| *other == symbol) {
                entry.remove();
            }
            *text = Arc::from("");
            self.free.push(symbol);
        }
    }

    /// The text of a symbol.
    pub(super) fn text(&self, symbol: Symbol) -> &Arc<str> {
        &self.texts[symbol as usize].0
    }

    /// Memory held, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        // An Arc holds two counts in front of its text.
        let texts: usize = self.texts.iter().map(|(text, _)| text.len() + 16).sum();
        let tables = self.texts.capacity() * size_of::<(Arc<str>, u32)>() + self.free.capacity() * size_of::<Symbol>();
        texts + tables + self.by_text.capacity() * (size_of::<Symbol>() + 1)
    }
}
