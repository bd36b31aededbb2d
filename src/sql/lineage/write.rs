//! INSERT, REPLACE, UPDATE, DELETE: what is assigned from what, and whether one row is pinned by its key.

use std::collections::BTreeSet;

use sqlparser::ast::{
    Assignment, AssignmentTarget, BinaryOperator, Delete, Expr, FromTable, InTarget, Insert,
    OnInsert, SetExpr, TableFactor, TableObject, TableWithJoins, Update, Value,
};

use super::scope::Scope;
use super::select::parts;
use super::{Found, Walk};
use crate::schema::{Column, Table};
use crate::sql::facts::{Assigned, ColumnRef, Facts, NewValue, Place, Unknown};

impl Walk<'_> {
    pub(super) fn insert(&mut self, insert: &Insert, facts: &mut Facts) -> Found<()> {
        let odd = insert.or.is_some()
            || insert.by_name
            || insert.overwrite
            || insert.partitioned.is_some()
            || insert.overriding.is_some()
            || insert.output.is_some()
            || insert.settings.is_some()
            || insert.format_clause.is_some()
            || insert.multi_table_insert_type.is_some()
            || !insert.after_columns.is_empty()
            || insert.insert_alias.is_some();
        if odd || insert.returning.is_some() {
            return Err(Unknown::Construct("this form of INSERT"));
        }
        let TableObject::TableName(name) = &insert.table else {
            return Err(Unknown::Construct("this form of INSERT"));
        };
        let target = self.table(&parts(name)?, None, &[])?;
        let scope = Scope { relations: vec![target], ..Scope::default() };
        let given = if insert.replace_into { given_by(insert) } else { NewValue::Other };
        if insert.columns.is_empty() && insert.assignments.is_empty() {
            for output in scope.all()? {
                self.assigned(output.lineage.columns(), given, facts);
            }
        }
        for column in &insert.columns {
            self.assigned(scope.resolve(&parts(column)?)?.columns(), given, facts);
        }
        self.overwrites = insert.replace_into;
        self.assignments(&insert.assignments, &scope, facts)?;
        if let Some(source) = &insert.source {
            if let SetExpr::Values(values) = source.body.as_ref() {
                for value in values.rows.iter().flat_map(|row| &row.content) {
                    self.touch(value, &scope, &[], Place::Source)?;
                }
            } else {
                for output in self.query(source, &[], None)? {
                    self.used(output.lineage.columns(), Place::Source);
                }
            }
        }
        match &insert.on {
            None => Ok(()),
            Some(OnInsert::DuplicateKeyUpdate(assignments)) => {
                (self.upserting, self.overwrites) = (true, true);
                self.assignments(assignments, &scope, facts)
            }
            Some(_) => Err(Unknown::Construct("ON CONFLICT")),
        }
    }

    pub(super) fn update(&mut self, update: &Update, facts: &mut Facts) -> Found<()> {
        let odd = update.from.is_some()
            || update.returning.is_some()
            || update.output.is_some()
            || update.or.is_some()
            || update.settings.is_some();
        if odd {
            return Err(Unknown::Construct("this form of UPDATE"));
        }
        let mut scope = Scope::default();
        self.join_tree(&update.table, &[], &mut scope)?;
        self.overwrites = true;
        self.assignments(&update.assignments, &scope, facts)?;
        self.rows(update.selection.as_ref(), &scope, facts)?;
        self.order_by(&update.order_by, &[], &scope, &[])?;
        facts.key_pinned =
            self.pinned(std::slice::from_ref(&update.table), update.selection.as_ref());
        Ok(())
    }

    pub(super) fn delete(&mut self, delete: &Delete, facts: &mut Facts) -> Found<()> {
        let odd = delete.returning.is_some()
            || delete.output.is_some()
            || delete.on_cluster.is_some()
            || delete.settings.is_some();
        if odd {
            return Err(Unknown::Construct("this form of DELETE"));
        }
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        let mut scope = Scope::default();
        for tree in from.iter().filter(|_| delete.using.is_none()) {
            self.join_tree(tree, &[], &mut scope)?;
        }
        for tree in delete.using.iter().flatten() {
            self.join_tree(tree, &[], &mut scope)?;
        }
        self.rows(delete.selection.as_ref(), &scope, facts)?;
        self.order_by(&delete.order_by, &[], &scope, &[])?;
        let single = delete.tables.is_empty() && delete.using.is_none();
        facts.key_pinned = single && self.pinned(from, delete.selection.as_ref());
        Ok(())
    }

    fn rows(
        &mut self,
        selection: Option<&Expr>,
        scope: &Scope<'_>,
        facts: &mut Facts,
    ) -> Found<()> {
        facts.has_where = selection.is_some();
        match selection {
            Some(selection) => self.touch(selection, scope, &[], Place::Where),
            None => Ok(()),
        }
    }

    fn assignments(
        &mut self,
        assignments: &[Assignment],
        scope: &Scope<'_>,
        facts: &mut Facts,
    ) -> Found<()> {
        for assignment in assignments {
            let AssignmentTarget::ColumnName(name) = &assignment.target else {
                return Err(Unknown::Construct("this form of an assignment"));
            };
            let given = if self.overwrites { given(&assignment.value) } else { NewValue::Other };
            self.assigned(scope.resolve(&parts(name)?)?.columns(), given, facts);
            self.touch(&assignment.value, scope, &[], Place::Source)?;
        }
        Ok(())
    }

    fn assigned(&self, columns: &[ColumnRef], given: NewValue, facts: &mut Facts) {
        facts.assigned.extend(columns.iter().map(|column| {
            let table = self.cx.catalog.table(&column.schema, &column.table);
            let found = table.and_then(|table| table.columns.get(table.column(&column.name)?));
            let is_string = found.is_some_and(|found| STRINGS.contains(&found.data_type.as_str()));
            Assigned { column: column.clone(), is_string, given }
        }));
    }

    /// Whether the top-level AND pins a whole unique key of the one table to literals or parameters.
    fn pinned(&self, from: &[TableWithJoins], selection: Option<&Expr>) -> bool {
        let ([tree], Some(selection)) = (from, selection) else { return false };
        let TableFactor::Table { name, .. } = &tree.relation else { return false };
        let Ok(parts) = parts(name) else { return false };
        let table = match parts.as_slice() {
            [name] => self.cx.schema.and_then(|schema| self.cx.catalog.table(schema, name)),
            [schema, name] => self.cx.catalog.table(schema, name),
            _ => None,
        };
        let Some(table) = table.filter(|_| tree.joins.is_empty()) else { return false };
        let mut pinned = BTreeSet::new();
        collect_pins(selection, table, &mut pinned);
        table.unique_keys.iter().any(|key| {
            !key.is_empty() && key.iter().all(|column| pinned.contains(&usize::from(*column)))
        })
    }
}

/// Types whose values come as strings.
const STRINGS: [&str; 14] = [
    "char",
    "varchar",
    "tinytext",
    "text",
    "mediumtext",
    "longtext",
    "binary",
    "varbinary",
    "tinyblob",
    "blob",
    "mediumblob",
    "longblob",
    "enum",
    "set",
];

fn given(value: &Expr) -> NewValue {
    match value {
        Expr::Nested(inner) => given(inner),
        Expr::Value(value) => match value.value {
            Value::Null => NewValue::Null,
            Value::Placeholder(_) => NewValue::Parameter,
            _ => NewValue::Other,
        },
        _ => NewValue::Other,
    }
}

/// What REPLACE gives, to whichever of its columns: NULL, where it stands anywhere.
fn given_by(insert: &Insert) -> NewValue {
    let Some(source) = &insert.source else { return NewValue::Other };
    let SetExpr::Values(values) = source.body.as_ref() else { return NewValue::Other };
    let all = || values.rows.iter().flat_map(|row| &row.content).map(given);
    if all().any(|given| given == NewValue::Null) {
        NewValue::Null
    } else if all().any(|given| given == NewValue::Parameter) {
        NewValue::Parameter
    } else {
        NewValue::Other
    }
}

fn collect_pins(expression: &Expr, table: &Table, pinned: &mut BTreeSet<usize>) {
    match expression {
        Expr::Nested(inner) => collect_pins(inner, table, pinned),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            collect_pins(left, table, pinned);
            collect_pins(right, table, pinned);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            for (column, value) in [(left, right), (right, left)] {
                pinned.extend(column_of(column, table).filter(|at| pins(value, *at, table)));
            }
        }
        Expr::In { expr, target: InTarget::List(list), negated: false, .. } => {
            if let [value] = list.as_slice() {
                pinned.extend(column_of(expr, table).filter(|at| pins(value, *at, table)));
            }
        }
        _ => {}
    }
}

fn column_of(expression: &Expr, table: &Table) -> Option<usize> {
    match expression {
        Expr::Identifier(name) => table.column(&name.value),
        Expr::CompoundIdentifier(names) => table.column(&names.last()?.value),
        Expr::Nested(inner) => column_of(inner, table),
        _ => None,
    }
}

/// Types whose values a number, or a parameter that may be one, is equal to one at the most. A text isn't: `'abc' = 0`.
const BY_NUMBER: [&str; 16] = [
    "tinyint",
    "smallint",
    "mediumint",
    "int",
    "bigint",
    "decimal",
    "float",
    "double",
    "bit",
    "year",
    "date",
    "datetime",
    "timestamp",
    "time",
    "enum",
    "set",
];

/// Whether `column = value` can hold for one value of the column at the most.
fn pins(expression: &Expr, column: usize, table: &Table) -> bool {
    let by_number = || {
        let of_type = |column: &Column| BY_NUMBER.contains(&column.data_type.as_str());
        table.columns.get(column).is_some_and(of_type)
    };
    match expression {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(_) | Value::DoubleQuotedString(_) => true,
            Value::Number(..) | Value::Placeholder(_) => by_number(),
            _ => false,
        },
        Expr::Nested(inner) => pins(inner, column, table),
        _ => false,
    }
}
