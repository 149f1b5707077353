//! Names of labels, each kept once.

use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashTable;

/// A text by its number.
pub(super) type Symbol = u32;

/// Texts in use, and how often.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    texts: Vec<Arc<str>>,
    /// Beside the texts: together they would take four bytes more each.
    uses: Vec<u32>,
    by_text: HashTable<Symbol>,
    free: Vec<Symbol>,
    /// What stands where a text was.
    nothing: Arc<str>,
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
            self.uses[symbol as usize] += 1;
            return symbol;
        }
        let symbol = match self.free.pop() {
            Some(symbol) => {
                self.texts[symbol as usize] = Arc::clone(text);
                self.uses[symbol as usize] = 1;
                symbol
            }
            None => {
                self.texts.push(Arc::clone(text));
                self.uses.push(1);
                // More than 2^32 texts do not fit into memory.
                u32::try_from(self.texts.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let (texts, hasher) = (&self.texts, &self.hasher);
        let hash = |symbol: &Symbol| hasher.hash_one(&*texts[*symbol as usize]);
        self.by_text.insert_unique(hash(&symbol), symbol, hash);
        symbol
    }

    /// One use less.
    pub(super) fn give_back(&mut self, symbol: Symbol) {
        let (text, uses) = (&mut self.texts[symbol as usize], &mut self.uses[symbol as usize]);
        *uses -= 1;
        if *uses == 0 {
            let hash = self.hasher.hash_one(&**text);
            if let Ok(entry) = self.by_text.find_entry(hash, |other| *other == symbol) {
                entry.remove();
            }
            *text = Arc::clone(&self.nothing);
            self.free.push(symbol);
        }
    }

    /// The text of a symbol.
    pub(super) fn text(&self, symbol: Symbol) -> &Arc<str> {
        &self.texts[symbol as usize]
    }

    /// Memory held, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        // An Arc holds two counts in front of its text.
        let texts: usize = self.texts.iter().map(|text| text.len() + 16).sum();
        let tables = self.texts.capacity() * size_of::<Arc<str>>()
            + self.uses.capacity() * size_of::<u32>()
            + self.free.capacity() * size_of::<Symbol>();
        texts + tables + self.by_text.capacity() * (size_of::<Symbol>() + 1)
    }
}
