//! Expressions: which labelled columns a value comes from, and which are used on the way.

use sqlparser::ast::{
    DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Interval,
    OrderByExpr, Value, WindowType,
};

use super::functions::{is_masked_whole, takes_numbers};
use super::scope::{Relation, Scope};
use super::select::parts;
use super::{Found, Walk, computed};
use crate::sql::facts::{ColumnRef, Lineage, Place, Unknown};

impl Walk<'_> {
    /// An expression whose value is not an output: whatever labelled it holds is used at `place`.
    pub(super) fn touch(
        &mut self,
        expression: &Expr,
        scope: &Scope<'_>,
        ctes: &[Relation],
        place: Place,
    ) -> Found<()> {
        let lineage = self.expression(expression, scope, ctes)?;
        self.used(lineage.columns(), place);
        Ok(())
    }

    /// Where a value comes from.
    pub(super) fn expression(
        &mut self,
        expression: &Expr,
        scope: &Scope<'_>,
        ctes: &[Relation],
    ) -> Found<Lineage> {
        self.deeper()?;
        let lineage = self.inner(expression, scope, ctes)?;
        self.depth -= 1;
        Ok(lineage)
    }

    fn inner(&mut self, expression: &Expr, scope: &Scope<'_>, ctes: &[Relation]) -> Found<Lineage> {
        match expression {
            Expr::Identifier(name) if name.value.starts_with('@') => {
                Err(Unknown::Construct("a variable"))
            }
            Expr::Identifier(name) => scope.resolve(std::slice::from_ref(&name.value)),
            Expr::CompoundIdentifier(names) => {
                let names: Vec<String> = names.iter().map(|name| name.value.clone()).collect();
                if names.first().is_some_and(|name| name.starts_with('@')) {
                    return Err(Unknown::Construct("a variable"));
                }
                scope.resolve(&names)
            }
            // `text 'x'` is a column and its alias to the servers.
            Expr::TypedString(text) if !is_temporal(&text.data_type) => {
                Err(Unknown::Construct("this form of a literal"))
            }
            Expr::Value(value) if is_foreign(&value.value) => {
                Err(Unknown::Construct("this form of a literal"))
            }
            Expr::Value(_) | Expr::TypedString(_) => Ok(Lineage::Free),
            Expr::Prefixed { value, .. } => self.expression(value, scope, ctes),
            Expr::Nested(inner) => self.expression(inner, scope, ctes),
            Expr::Function(function) => self.function(function, scope, ctes),
            Expr::Trim { trim_where: _, trim_what, expr, trim_characters: None } => {
                let what = trim_what.as_deref();
                self.masked_whole([Some(expr.as_ref()), what], scope, ctes)
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let bounds = [substring_from.as_deref(), substring_for.as_deref()];
                self.combined(bounds.into_iter().flatten().collect(), scope, ctes)?;
                let bounds = bounds.into_iter().flatten().map(Some);
                self.masked_whole(std::iter::once(Some(expr.as_ref())).chain(bounds), scope, ctes)
            }
            Expr::Subquery(query) => {
                let outputs = self.query(query, ctes, Some(scope))?;
                for output in &outputs {
                    self.used(output.lineage.columns(), Place::Subquery);
                }
                let columns =
                    outputs.iter().flat_map(|output| output.lineage.columns()).cloned().collect();
                Ok(computed(columns))
            }
            Expr::Exists { subquery, .. } => {
                // What EXISTS selects is not looked at; what it filters by was noted on the way.
                self.query(subquery, ctes, Some(scope))?;
                Ok(Lineage::Free)
            }
            other => self.operator(other, scope, ctes),
        }
    }

    /// Whatever computes from its parts in a way that a mask can't cover.
    fn operator(
        &mut self,
        expression: &Expr,
        scope: &Scope<'_>,
        ctes: &[Relation],
    ) -> Found<Lineage> {
        let operands: Vec<&Expr> = match expression {
            Expr::IsFalse(e)
            | Expr::IsNotFalse(e)
            | Expr::IsTrue(e)
            | Expr::IsNotTrue(e)
            | Expr::IsNull(e)
            | Expr::IsNotNull(e)
            | Expr::IsUnknown(e)
            | Expr::IsNotUnknown(e)
            | Expr::UnaryOp { expr: e, .. }
            | Expr::Collate { expr: e, .. }
            | Expr::Extract { expr: e, .. }
            | Expr::Ceil { expr: e, .. }
            | Expr::Floor { expr: e, .. }
            | Expr::Cast { expr: e, .. }
            | Expr::Interval(Interval { value: e, .. }) => vec![e],
            Expr::Convert { expr, styles, .. } if styles.is_empty() => vec![expr],
            Expr::IsDistinctFrom(a, b) | Expr::IsNotDistinctFrom(a, b) => vec![a, b],
            Expr::BinaryOp { .. } => chain(expression),
            Expr::Between { expr, low, high, .. } => vec![expr, low, high],
            Expr::Like { expr, pattern, escape_char, any: false, .. } => {
                let escape = escape_char.as_deref();
                [Some(expr.as_ref()), Some(pattern.as_ref()), escape]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Expr::RLike { expr, pattern, .. } => vec![expr, pattern],
            Expr::Position { expr, r#in } => vec![expr, r#in],
            Expr::Tuple(all) => all.iter().collect(),
            Expr::Case { operand, conditions, else_result, .. } => {
                let branches = conditions.iter().flat_map(|when| [&when.condition, &when.result]);
                let ends = [operand.as_deref(), else_result.as_deref()];
                branches.chain(ends.into_iter().flatten()).collect()
            }
            Expr::In { expr, target, .. } => return self.membership(expr, target, scope, ctes),
            Expr::MatchAgainst { columns, .. } => {
                let mut all = Vec::new();
                for column in columns {
                    all.extend_from_slice(scope.resolve(&parts(column)?)?.columns());
                }
                self.used(&all, Place::Expression);
                return Ok(computed(all));
            }
            _ => return Err(Unknown::Construct("this expression")),
        };
        self.combined(operands, scope, ctes)
    }

    fn membership(
        &mut self,
        expr: &Expr,
        target: &sqlparser::ast::InTarget,
        scope: &Scope<'_>,
        ctes: &[Relation],
    ) -> Found<Lineage> {
        use sqlparser::ast::InTarget;
        match target {
            InTarget::List(list) => {
                let operands = std::iter::once(expr).chain(list).collect();
                self.combined(operands, scope, ctes)
            }
            InTarget::Subquery(query) => {
                let outputs = self.query(query, ctes, Some(scope))?;
                for output in &outputs {
                    self.used(output.lineage.columns(), Place::Subquery);
                }
                self.combined(vec![expr], scope, ctes)
            }
            _ => Err(Unknown::Construct("this form of IN")),
        }
    }

    /// Operands whose labelled columns are used in an expression.
    fn combined(
        &mut self,
        operands: Vec<&Expr>,
        scope: &Scope<'_>,
        ctes: &[Relation],
    ) -> Found<Lineage> {
        let mut all = Vec::new();
        for operand in operands {
            all.extend_from_slice(self.expression(operand, scope, ctes)?.columns());
        }
        self.used(&all, Place::Expression);
        Ok(computed(all))
    }

    /// Operands of a function whose result is redacted whole.
    fn masked_whole<'e>(
        &mut self,
        operands: impl IntoIterator<Item = Option<&'e Expr>>,
        scope: &Scope<'_>,
        ctes: &[Relation],
    ) -> Found<Lineage> {
        let mut all: Vec<ColumnRef> = Vec::new();
        for operand in operands.into_iter().flatten() {
            all.extend_from_slice(self.expression(operand, scope, ctes)?.columns());
        }
        Ok(computed(all))
    }

    fn function(
        &mut self,
        function: &Function,
        scope: &Scope<'_>,
        ctes: &[Relation],
    ) -> Found<Lineage> {
        let odd = function.parameters != FunctionArguments::None
            || function.null_treatment.is_some()
            || function.filter.is_some()
            || function.uses_odbc_syntax
            || !function.within_group.is_empty();
        if odd {
            return Err(Unknown::Construct("this form of a function call"));
        }
        let (mut operands, mut plain): (Vec<&Expr>, bool) = (Vec::new(), true);
        match &function.args {
            FunctionArguments::None => {}
            FunctionArguments::List(list) => {
                plain = list.clauses.is_empty() && list.duplicate_treatment.is_none();
                for argument in &list.args {
                    match argument {
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => operands.push(expr),
                        FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => {}
                        _ => return Err(Unknown::Construct("this form of an argument")),
                    }
                }
                for clause in &list.clauses {
                    self.clause(clause, scope, ctes)?;
                }
            }
            FunctionArguments::Subquery(_) => {
                return Err(Unknown::Construct("this form of an argument"));
            }
        }
        if let Some(over) = &function.over {
            plain = false;
            self.window(over, scope, ctes)?;
        }
        let name = parts(&function.name)?;
        match name.as_slice() {
            [name] if self.upserting && is_values(name, &operands) => Ok(Lineage::Free),
            [name] if plain && is_masked_whole(name) => {
                // A text in place of a number is told by a warning.
                if takes_numbers(name) {
                    self.combined(operands.iter().skip(1).copied().collect(), scope, ctes)?;
                }
                self.masked_whole(operands.into_iter().map(Some), scope, ctes)
            }
            _ => self.combined(operands, scope, ctes),
        }
    }

    fn clause(
        &mut self,
        clause: &sqlparser::ast::FunctionArgumentClause,
        scope: &Scope<'_>,
        ctes: &[Relation],
    ) -> Found<()> {
        use sqlparser::ast::FunctionArgumentClause as Clause;
        match clause {
            Clause::OrderBy(by) => self.orders(by, scope, ctes),
            Clause::Separator(_) => Ok(()),
            _ => Err(Unknown::Construct("this clause of a function")),
        }
    }

    fn window(&mut self, over: &WindowType, scope: &Scope<'_>, ctes: &[Relation]) -> Found<()> {
        let WindowType::WindowSpec(window) = over else {
            return Err(Unknown::Construct("a named window"));
        };
        if window.window_name.is_some() {
            return Err(Unknown::Construct("a named window"));
        }
        for expression in &window.partition_by {
            self.touch(expression, scope, ctes, Place::Group)?;
        }
        self.orders(&window.order_by, scope, ctes)
    }

    fn orders(&mut self, by: &[OrderByExpr], scope: &Scope<'_>, ctes: &[Relation]) -> Found<()> {
        by.iter().try_for_each(|by| self.touch(&by.expr, scope, ctes, Place::Order))
    }
}

/// `VALUES(column)` in ON DUPLICATE KEY UPDATE: what was to be inserted, and no row's value.
fn is_values(name: &str, operands: &[&Expr]) -> bool {
    let column = matches!(operands, [Expr::Identifier(_) | Expr::CompoundIdentifier(_)]);
    column && (name.eq_ignore_ascii_case("values") || name.eq_ignore_ascii_case("value"))
}

fn is_temporal(data_type: &DataType) -> bool {
    use DataType::{Date, Datetime, Time, Timestamp};
    matches!(data_type, Date | Time(..) | Timestamp(..) | Datetime(..))
}

/// Values of other dialects: `$1` and `$$text$$` are names to the servers.
fn is_foreign(value: &Value) -> bool {
    match value {
        Value::Placeholder(text) => text != "?",
        Value::Number(_, long) => *long,
        Value::SingleQuotedString(_)
        | Value::DoubleQuotedString(_)
        | Value::NationalStringLiteral(_)
        | Value::HexStringLiteral(_)
        | Value::SingleQuotedByteStringLiteral(_)
        | Value::Boolean(_)
        | Value::Null => false,
        _ => true,
    }
}

/// The operands of a chain such as `a AND b AND c`, which nests to the left: followed without going deeper.
fn chain(expression: &Expr) -> Vec<&Expr> {
    let mut operands = Vec::new();
    let mut at = expression;
    while let Expr::BinaryOp { left, right, .. } = at {
        operands.push(right.as_ref());
        at = left;
    }
    operands.push(at);
    operands
}
