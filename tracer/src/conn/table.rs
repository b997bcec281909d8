//! A map from connection to value that knows which entry was used longest ago.
//!
//! Entries lie in one vector and are chained in order of use by index. Must not know its values.

use rustc_hash::FxHashMap;

use crate::event::ConnId;

const NONE: u32 = u32::MAX;

/// Entries by connection, chained from last to first used.
#[derive(Debug)]
pub(super) struct Table<T> {
    index: FxHashMap<ConnId, u32>,
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
}

#[derive(Debug)]
struct Entry<T> {
    conn: ConnId,
    newer: u32,
    older: u32,
    value: Option<T>,
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            index: FxHashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Finds an entry and makes it the last used one.
    pub(super) fn get(&mut self, conn: ConnId) -> Option<&mut T> {
        let at = *self.index.get(&conn)?;
        if at != self.newest {
            self.unchain(at);
            self.chain(at);
        }
        self.entries[at as usize].value.as_mut()
    }

    /// Adds an entry that is not there yet.
    pub(super) fn insert(&mut self, conn: ConnId, value: T) {
        let entry = Entry { conn, newer: NONE, older: NONE, value: Some(value) };
        let at = if let Some(at) = self.free.pop() {
            self.entries[at as usize] = entry;
            at
        } else {
            self.entries.push(entry);
            self.entries.len() as u32 - 1
        };
        self.index.insert(conn, at);
        self.chain(at);
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<T> {
        let at = self.index.remove(&conn)?;
        self.unchain(at);
        self.free.push(at);
        self.entries[at as usize].value.take()
    }

    /// Removes the entry used longest ago.
    pub(super) fn pop_oldest(&mut self) -> Option<(ConnId, T)> {
        let conn = self.entries.get(self.oldest as usize)?.conn;
        Some((conn, self.remove(conn)?))
    }

    /// Visits entries from the one used longest ago on, while `visit` says so.
    pub(super) fn for_oldest(&mut self, mut visit: impl FnMut(ConnId, &mut T) -> bool) {
        let mut at = self.oldest;
        while let Some(entry) = self.entries.get_mut(at as usize) {
            at = entry.newer;
            let conn = entry.conn;
            if !entry.value.as_mut().is_some_and(|value| visit(conn, value)) {
                return;
            }
        }
    }

    fn chain(&mut self, at: u32) {
        let older = std::mem::replace(&mut self.newest, at);
        let entry = &mut self.entries[at as usize];
        entry.newer = NONE;
        entry.older = older;
        match self.entries.get_mut(older as usize) {
            Some(older) => older.newer = at,
            None => self.oldest = at,
        }
    }

    fn unchain(&mut self, at: u32) {
        let Entry { newer, older, .. } = self.entries[at as usize];
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(table: &mut Table<u64>) -> Vec<u64> {
        let mut order = Vec::new();
        table.for_oldest(|_, value| {
            order.push(*value);
            true
        });
        order
    }

    #[test]
    fn entries_are_ordered_by_use() {
        let mut table = Table::new();
        for id in 0..5 {
            table.insert(ConnId(id), id);
        }
        assert_eq!(table.get(ConnId(1)), Some(&mut 1));
        assert_eq!(table.get(ConnId(0)), Some(&mut 0));
        assert_eq!(order(&mut table), [2, 3, 4, 1, 0]);
        assert_eq!(table.remove(ConnId(3)), Some(3));
        assert_eq!(table.pop_oldest(), Some((ConnId(2), 2)));
        table.insert(ConnId(9), 9);
        assert_eq!(order(&mut table), [4, 1, 0, 9]);
        assert_eq!(table.get(ConnId(3)), None);
        assert_eq!(table.len(), 4);
    }

    #[test]
    fn an_emptied_table_starts_over() {
        let mut table = Table::new();
        table.insert(ConnId(1), 1);
        assert_eq!(table.pop_oldest(), Some((ConnId(1), 1)));
        assert_eq!(table.pop_oldest(), None);
        table.insert(ConnId(2), 2);
        assert_eq!(order(&mut table), [2]);
        assert_eq!(table.entries.len(), 1);
    }
}
