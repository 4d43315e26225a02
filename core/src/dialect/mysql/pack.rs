//! Puts rows into statements of the right size.
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::{Refused, Statement, Work};

/// The statements for some rows of a step.
pub(super) struct Pack<'a> {
    work: &'a Work<'a>,
    head: &'a str,
    tail: &'a str,
    pub(super) rows_max: usize,
    // All statements together.
    pub(super) bytes_likely: usize,
    // The statement under construction, and its rows.
    sql: String,
    rows: Range<usize>,
    count: usize,
    done: Vec<Statement>,
}

impl<'a> Pack<'a> {
    pub(super) fn new(work: &'a Work<'a>, head: &'a str, tail: &'a str) -> Self {
        let (sql, done) = (String::new(), Vec::new());
        let (rows_max, bytes_likely) = (usize::MAX, 0);
        Self { work, head, tail, rows_max, bytes_likely, sql, rows: 0..0, count: 0, done }
    }

    pub(super) fn push(&mut self, index: usize, item: &str, between: &str) -> Result<(), Refused> {
        let fixed = self.head.len().saturating_add(self.tail.len());
        let alone = fixed.saturating_add(item.len());
        let next = index.saturating_add(1);
        if self.work.my.statement_bytes_max < alone {
            return Err(Refused::Large { bytes: alone, at: self.work.at(index..next) });
        }
        let grown = self.sql.len().saturating_add(between.len()).saturating_add(item.len());
        let grown = grown.saturating_add(self.tail.len());
        if 0 < self.count && (self.rows_max <= self.count || self.work.my.statement_bytes < grown) {
            self.cut();
        }
        if self.count == 0 {
            let left = self.bytes_likely.saturating_add(fixed).min(self.work.my.statement_bytes);
            self.sql.reserve(left);
            self.sql.push_str(self.head);
            self.rows = index..next;
        } else {
            self.sql.push_str(between);
            self.rows = self.rows.start.min(index)..self.rows.end.max(next);
        }
        self.sql.push_str(item);
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    fn cut(&mut self) {
        let mut sql = core::mem::take(&mut self.sql);
        sql.push_str(self.tail);
        self.bytes_likely = self.bytes_likely.saturating_sub(sql.len());
        self.count = 0;
        let at = self.work.at(self.rows.clone());
        self.done.push(Statement { sql, rows_min: None, at });
    }

    pub(super) fn finish(mut self) -> Vec<Statement> {
        if 0 < self.count {
            self.cut();
        }
        self.done
    }
}
