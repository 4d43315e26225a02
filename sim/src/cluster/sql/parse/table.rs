//! `CREATE TABLE`, as far as the product's own tables and the table of dead letters go.
use super::super::error::SqlError;
use super::super::table::{ColumnDef, Preset, TableDef, UniqueDef};
use super::super::value::Type;
use super::Parser;

impl Parser<'_> {
    /// After `CREATE TABLE IF NOT EXISTS`.
    pub(super) fn create_table(&mut self) -> Result<TableDef, SqlError> {
        let name = self.table_name()?;
        let mut table =
            TableDef { name, columns: Vec::new(), uniques: Vec::new(), foreign_keys: Vec::new() };
        self.needs_sign("(")?;
        self.list(|parser| parser.table_part(&mut table))?;
        self.needs_sign(")")?;
        for unique in &table.uniques {
            for column in &unique.columns {
                table.columns[*column].not_null |= unique.primary;
            }
        }
        Ok(table)
    }

    /// A column or the primary key.
    fn table_part(&mut self, table: &mut TableDef) -> Result<(), SqlError> {
        let named = if self.takes("CONSTRAINT") { Some(self.name()?) } else { None };
        let key_name = named.clone().unwrap_or_else(|| format!("{}_pkey", table.name.table));
        if self.takes("PRIMARY KEY") {
            let columns = self.in_parens(Self::name)?;
            let columns =
                columns.iter().map(|name| table.column(name)).collect::<Result<_, _>>()?;
            table.uniques.push(UniqueDef { name: key_name, columns, primary: true });
            return Ok(());
        }
        if named.is_some() {
            return Err(self.unknown());
        }
        let name = self.name()?;
        let type_name = self.name()?;
        let base = Type::named(&type_name).ok_or_else(|| self.unknown())?;
        let mut column = ColumnDef { name, of: base.one(), not_null: false, default: None };
        loop {
            if self.takes("NOT NULL") {
                column.not_null = true;
            } else if self.takes("DEFAULT now") {
                self.default(&mut column, Preset::Now)?;
            } else if self.takes("DEFAULT gen_random_uuid") {
                self.default(&mut column, Preset::Uuid)?;
            } else if self.takes("PRIMARY KEY") {
                let columns = vec![table.columns.len()];
                table.uniques.push(UniqueDef { name: key_name.clone(), columns, primary: true });
            } else {
                table.columns.push(column);
                return Ok(());
            }
        }
    }

    fn default(&mut self, column: &mut ColumnDef, default: Preset) -> Result<(), SqlError> {
        self.needs_sign("(")?;
        self.needs_sign(")")?;
        column.default = Some(default);
        Ok(())
    }
}
