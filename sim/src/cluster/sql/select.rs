//! What a query does with the rows that it finds: folds them into one, or puts them in order and cuts them off.
use std::cmp::Ordering;
use std::collections::BTreeSet;

use replicator_core::dialect::Product;

use super::ast::{Expr, Item, Select};
use super::data::{Row, Work};
use super::error::{Halt, SqlError};
use super::eval::{Columns, Named, Scope};
use super::lock::{Lock, Mode};
use super::value::Value;

/// What a row is put in order by, each with whether the greatest comes first.
type Order = Vec<(Value, bool)>;

/// A row that a query has found.
struct Selected {
    order: Order,
    distinct: Row,
    row: Row,
}

/// Which of two rows comes first.
pub(super) fn in_order(one: &[(Value, bool)], other: &[(Value, bool)]) -> Ordering {
    let each = one.iter().zip(other).map(|((one, down), (other, _))| {
        let order = one.cmp(other);
        if *down { order.reverse() } else { order }
    });
    each.fold(Ordering::Equal, Ordering::then)
}

impl Select {
    /// The output column that an expression of ORDER BY means, if it is the name of one.
    pub(super) fn output(&self, expr: &Expr) -> Option<usize> {
        let Expr::Column { of: None, name } = expr else { return None };
        let stars = self.items.iter().any(|item| matches!(item.expr, Expr::Star));
        self.items.iter().position(|item| item.name == *name).filter(|_| !stars)
    }
}

impl Item {
    /// Whether it is `count(*) OVER ()`.
    const fn counts(&self) -> bool {
        matches!(self.expr, Expr::CountOver)
    }
}

impl Work<'_> {
    /// Runs a query. The rows come in the order that it asks for.
    pub(super) fn select(&mut self, query: &Select, scope: &Scope<'_>) -> Result<Vec<Row>, Halt> {
        if query.items.iter().any(|item| !item.expr.aggregates().is_empty()) {
            return self.fold(query, scope);
        }
        let names: Vec<String> = query.items.iter().map(|item| item.name.clone()).collect();
        let mut found: Vec<Selected> = Vec::new();
        let mut take = |work: &mut Self, scope: &Scope<'_>| {
            work.share(query, scope)?;
            let mut row = Row::new();
            for item in &query.items {
                match (&item.expr, &scope.row) {
                    (Expr::Star, Some(source)) => row.extend_from_slice(source.row),
                    (expr, _) => row.push(work.eval(expr, scope)?),
                }
            }
            // What is selected has the names that it is given, before the rows that it is made of.
            let columns = Columns::Names(&names);
            let outputs = scope.with(Named { alias: "", columns, row: &row, place: None });
            let order = work.order(&query.order, &outputs)?;
            let distinct = query.distinct.iter().flatten().map(|expr| work.eval(expr, scope));
            let distinct = distinct.collect::<Result<_, _>>()?;
            found.push(Selected { order, distinct, row });
            Ok(())
        };
        self.join(&query.from, query.filter.as_ref(), scope, &mut take)?;
        found.sort_by(|one, other| in_order(&one.order, &other.order));
        if let Some(distinct) = &query.distinct {
            let mut seen = BTreeSet::new();
            found.retain(|selected| {
                let by = if distinct.is_empty() { &selected.row } else { &selected.distinct };
                seen.insert(by.clone())
            });
        }
        let count = i64::try_from(found.len()).expect("few rows");
        if let Some(limit) = &query.limit {
            found.truncate(self.limit(limit, scope)?);
        }
        for (place, _) in query.items.iter().enumerate().filter(|(_, item)| item.counts()) {
            found.iter_mut().for_each(|selected| selected.row[place] = Value::Int(count));
        }
        Ok(found.into_iter().map(|selected| selected.row).collect())
    }

    /// What a row is put in order by.
    pub(super) fn order(
        &mut self,
        order: &[(Expr, bool)],
        scope: &Scope<'_>,
    ) -> Result<Order, Halt> {
        order.iter().map(|(expr, down)| Ok((self.eval(expr, scope)?, *down))).collect()
    }

    /// How many rows at most.
    pub(super) fn limit(&mut self, limit: &Expr, scope: &Scope<'_>) -> Result<usize, Halt> {
        let limit = self.eval(limit, scope)?;
        let Value::Int(limit) = limit else {
            return Err(SqlError::unknown(&format!("a limit of {limit:?}")).into());
        };
        Ok(usize::try_from(limit).unwrap_or_default())
    }

    /// Runs a query that makes one row of all that it finds.
    fn fold(&mut self, query: &Select, scope: &Scope<'_>) -> Result<Vec<Row>, Halt> {
        let of: Vec<&Expr> = query.items.iter().flat_map(|item| item.expr.aggregates()).collect();
        let mut greatest = vec![Value::Null; of.len()];
        let mut take = |work: &mut Self, scope: &Scope<'_>| {
            work.share(query, scope)?;
            for (expr, greatest) in of.iter().zip(&mut greatest) {
                let value = work.eval(expr, scope)?;
                if *greatest == Value::Null || value != Value::Null && *greatest < value {
                    *greatest = value;
                }
            }
            Ok(())
        };
        self.join(&query.from, query.filter.as_ref(), scope, &mut take)?;
        let mut values = greatest.into_iter();
        let items = query.items.iter().map(|item| item.expr.folded(&mut values));
        let items: Vec<Expr> = items.collect();
        let row = items.iter().map(|expr| self.eval(expr, scope)).collect::<Result<_, _>>()?;
        Ok(vec![row])
    }

    /// Keeps rows that were found as they are, where that is asked for.
    fn share(&mut self, query: &Select, scope: &Scope<'_>) -> Result<(), Halt> {
        if query.share || self.data.product == Product::Cockroach {
            for (table, key) in scope.rows().filter_map(|row| row.place) {
                self.lock(Lock::Row(table, key.clone()), Mode::Share)?;
            }
        }
        Ok(())
    }
}
