//! Queries: CTEs, FROM, projections, set operations, and where rows are chosen, grouped and ordered.

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Join, JoinConstraint, JoinOperator, LimitClause, ObjectName,
    ObjectNamePart, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, TableAlias, TableFactor,
    TableWithJoins, Value,
};

use super::names::{aliases, written};
use super::scope::{Relation, Scope};
use super::{Found, MAX_JOINS, Walk, either, unnamed};
use crate::schema::{Same, fold, same};
use crate::sql::facts::{Output, Place, Unknown};
use crate::sql::tables::SYSTEM;

/// Common table expressions that are in sight, innermost last.
pub(super) type Ctes = Vec<Relation>;

impl Walk<'_> {
    /// A query's result columns.
    pub(super) fn query(
        &mut self,
        query: &Query,
        ctes: &[Relation],
        outer: Option<&Scope<'_>>,
    ) -> Found<Vec<Output>> {
        self.deeper()?;
        let odd = query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || query.fetch.is_some()
            || !query.pipe_operators.is_empty();
        if odd {
            return Err(Unknown::Construct("this clause of a query"));
        }
        let mut ctes: Ctes = ctes.to_vec();
        if let Some(with) = &query.with {
            if with.recursive {
                return Err(Unknown::Construct("WITH RECURSIVE"));
            }
            for cte in &with.cte_tables {
                let columns = self.query(&cte.query, &ctes, outer)?;
                ctes.push(self.aliased(&cte.alias, columns)?);
            }
        }
        let (outputs, scope) = self.body(&query.body, &ctes, outer)?;
        if let Some(order) = &query.order_by {
            self.order(order, &outputs, &scope, &ctes)?;
        }
        if let Some(limit) = &query.limit_clause {
            self.limit(limit, &scope, &ctes)?;
        }
        self.depth -= 1;
        Ok(outputs)
    }

    fn body<'o>(
        &mut self,
        body: &SetExpr,
        ctes: &[Relation],
        outer: Option<&'o Scope<'o>>,
    ) -> Found<(Vec<Output>, Scope<'o>)> {
        let empty = Scope { outer, ..Scope::default() };
        match body {
            SetExpr::Select(select) => self.select(select, ctes, outer),
            SetExpr::Query(query) => Ok((self.query(query, ctes, outer)?, empty)),
            SetExpr::SetOperation { op, set_quantifier, left, right } => {
                self.deeper()?;
                let (left, _) = self.body(left, ctes, outer)?;
                let (right, _) = self.body(right, ctes, outer)?;
                self.depth -= 1;
                if left.len() != right.len() {
                    return Err(Unknown::Construct("a set operation of unequal columns"));
                }
                let all = *op == SetOperator::Union && *set_quantifier == SetQuantifier::All;
                if !all {
                    for output in left.iter().chain(&right) {
                        self.used(output.lineage.columns(), Place::Distinct);
                    }
                }
                let merge = |(left, right): (Output, Output)| Output {
                    name: left.name,
                    lineage: either(left.lineage, right.lineage),
                };
                Ok((left.into_iter().zip(right).map(merge).collect(), empty))
            }
            SetExpr::Values(values) => {
                let mut outputs: Vec<Output> = Vec::new();
                for row in &values.rows {
                    for (at, value) in row.content.iter().enumerate() {
                        let lineage = self.expression(value, &empty, ctes)?;
                        self.used(lineage.columns(), Place::Expression);
                        if outputs.len() == at {
                            outputs.push(unnamed(lineage));
                        }
                    }
                }
                Ok((outputs, empty))
            }
            _ => Err(Unknown::Construct("this form of a query")),
        }
    }

    fn select<'o>(
        &mut self,
        select: &Select,
        ctes: &[Relation],
        outer: Option<&'o Scope<'o>>,
    ) -> Found<(Vec<Output>, Scope<'o>)> {
        check_plain(select)?;
        let mut scope = Scope { outer, aliases: aliases(select), ..Scope::default() };
        for from in &select.from {
            self.join_tree(from, ctes, &mut scope)?;
        }
        let mut outputs = Vec::new();
        for item in &select.projection {
            self.item(item, &scope, ctes, &mut outputs)?;
        }
        if let Some(selection) = &select.selection {
            self.touch(selection, &scope, ctes, Place::Where)?;
        }
        match &select.group_by {
            GroupByExpr::Expressions(expressions, modifiers) if modifiers.len() <= 1 => {
                for expression in expressions {
                    self.by_output(expression, &outputs, &scope, ctes, Place::Group)?;
                }
            }
            _ => return Err(Unknown::Construct("GROUP BY ALL")),
        }
        if let Some(having) = &select.having {
            self.having(having, &outputs, &scope, ctes)?;
        }
        match &select.distinct {
            None | Some(Distinct::All) => {}
            Some(Distinct::Distinct) => {
                for output in &outputs {
                    self.used(output.lineage.columns(), Place::Distinct);
                }
            }
            Some(_) => return Err(Unknown::Construct("DISTINCT ON")),
        }
        Ok((outputs, scope))
    }

    fn item(
        &mut self,
        item: &SelectItem,
        scope: &Scope<'_>,
        ctes: &[Relation],
        outputs: &mut Vec<Output>,
    ) -> Found<()> {
        match item {
            SelectItem::UnnamedExpr(expression) => {
                let lineage = self.expression(expression, scope, ctes)?;
                let name = match expression {
                    Expr::Identifier(name) => Some(name.value.clone()),
                    Expr::CompoundIdentifier(parts) => parts.last().map(|p| p.value.clone()),
                    _ => None,
                };
                outputs.push(Output { name, lineage });
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let lineage = self.expression(expr, scope, ctes)?;
                outputs.push(Output { name: Some(written(alias)?), lineage });
            }
            SelectItem::Wildcard(options) if is_plain_wildcard(options) => {
                outputs.extend(scope.all()?);
            }
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) if is_plain_wildcard(options) => outputs.extend(scope.all_of(&parts(name)?)?),
            _ => return Err(Unknown::Construct("this form of a projection")),
        }
        Ok(())
    }

    /// One comma-separated part of a FROM.
    pub(super) fn join_tree(
        &mut self,
        tree: &TableWithJoins,
        ctes: &[Relation],
        scope: &mut Scope<'_>,
    ) -> Found<()> {
        let start = scope.relations.len();
        self.factor(&tree.relation, ctes, scope)?;
        for join in &tree.joins {
            self.joins += 1;
            if self.joins > MAX_JOINS {
                return Err(Unknown::TooComplex("61 joins"));
            }
            self.factor(&join.relation, ctes, scope)?;
            match constraint(join)? {
                JoinConstraint::On(expression) => {
                    // A condition sees the tables of its own joins, not those before a comma.
                    let mut own = Scope { aliases: Vec::new(), ..scope.clone() };
                    own.relations.drain(..start);
                    self.touch(expression, &own, ctes, Place::Join)?;
                }
                JoinConstraint::Using(names) => {
                    scope.merged = true;
                    for name in names {
                        for relation in scope.relations.clone() {
                            let one = Scope { relations: vec![relation], ..Scope::default() };
                            if let Some(lineage) = one.find(&parts(name)?)? {
                                self.used(lineage.columns(), Place::Join);
                            }
                        }
                    }
                }
                JoinConstraint::None => {}
                _ => return Err(Unknown::Construct("NATURAL JOIN")),
            }
        }
        Ok(())
    }

    fn factor(
        &mut self,
        factor: &TableFactor,
        ctes: &[Relation],
        scope: &mut Scope<'_>,
    ) -> Found<()> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                version: None,
                sample: None,
                json_path: None,
                with_ordinality: false,
                inheritance: None,
                with_hints,
                ..
            } if with_hints.is_empty() => {
                let relation = self.table(&parts(name)?, alias.as_ref(), ctes)?;
                scope.relations.push(relation);
            }
            TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None } => {
                let columns = self.query(subquery, ctes, scope.outer)?;
                scope.relations.push(self.aliased(alias, columns)?);
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.deeper()?;
                self.join_tree(table_with_joins, ctes, scope)?;
                self.depth -= 1;
            }
            _ => return Err(Unknown::Construct("this form of a table")),
        }
        Ok(())
    }

    /// A named relation: a CTE, or a table of the catalogue.
    pub(super) fn table(
        &mut self,
        parts: &[String],
        alias: Option<&TableAlias>,
        ctes: &[Relation],
    ) -> Found<Relation> {
        if let Some(alias) = alias.filter(|alias| !alias.columns.is_empty() || alias.at.is_some()) {
            let name = alias.name.value.chars().take(64).collect();
            return Err(Unknown::Name(name));
        }
        let alias = alias.map(|alias| alias.name.value.as_str());
        if let [name] = parts {
            let named = |cte: &&Relation| same(&cte.name, name) != Same::No;
            if let Some(cte) = ctes.iter().rev().find(named) {
                if same(&cte.name, name) == Same::Perhaps {
                    return Err(Unknown::Name(name.chars().take(128).collect()));
                }
                let name = alias.unwrap_or(name);
                return Ok(Relation::made(name, cte.columns.clone(), self.by_case()));
            }
        }
        let unknown = || Unknown::Name(parts.join(".").chars().take(128).collect());
        let (schema, name) = match parts {
            [name] => (self.cx.schema.ok_or_else(unknown)?, name),
            [schema, name] => (schema.as_str(), name),
            _ => return Err(unknown()),
        };
        if SYSTEM.contains(&fold(schema).as_str()) {
            return Err(Unknown::Construct("a system table beside labelled data"));
        }
        let table = self.cx.catalog.table(schema, name).ok_or_else(unknown)?;
        self.relations.insert((table.schema.clone(), table.name.clone()));
        Ok(Relation::of(table, alias, self.by_case()))
    }

    fn by_case(&self) -> bool {
        self.cx.catalog.profile.lower_case_table_names == 0
    }

    fn aliased(&self, alias: &TableAlias, mut columns: Vec<Output>) -> Found<Relation> {
        if alias.at.is_some() {
            return Err(Unknown::Construct("this form of an alias"));
        }
        if !alias.columns.is_empty() {
            if alias.columns.len() != columns.len() {
                return Err(Unknown::Construct("an alias of unequal columns"));
            }
            for (column, named) in columns.iter_mut().zip(&alias.columns) {
                column.name = Some(written(&named.name)?);
            }
        }
        Ok(Relation::made(&alias.name.value, columns, self.by_case()))
    }

    fn order(
        &mut self,
        order: &OrderBy,
        outputs: &[Output],
        scope: &Scope<'_>,
        ctes: &[Relation],
    ) -> Found<()> {
        let OrderByKind::Expressions(expressions) = &order.kind else {
            return Err(Unknown::Construct("ORDER BY ALL"));
        };
        self.order_by(expressions, outputs, scope, ctes)
    }

    pub(super) fn order_by(
        &mut self,
        expressions: &[OrderByExpr],
        outputs: &[Output],
        scope: &Scope<'_>,
        ctes: &[Relation],
    ) -> Found<()> {
        for by in expressions {
            self.by_output(&by.expr, outputs, scope, ctes, Place::Order)?;
        }
        Ok(())
    }

    /// An expression that may name an output by alias or position: every reading counts.
    fn by_output(
        &mut self,
        expression: &Expr,
        outputs: &[Output],
        scope: &Scope<'_>,
        ctes: &[Relation],
        place: Place,
    ) -> Found<()> {
        if let Some(at) = position(expression) {
            let output = at.checked_sub(1).and_then(|at| outputs.get(at));
            let output = output.ok_or_else(|| Unknown::Name(format!("column {at}")))?;
            self.used(output.lineage.columns(), place);
            return Ok(());
        }
        if let Expr::Identifier(name) = expression {
            let mut known = false;
            let wanted = fold(&name.value);
            for output in outputs {
                if output.name.as_ref().is_some_and(|name| fold(name) == wanted) {
                    self.used(output.lineage.columns(), place);
                    known = true;
                }
            }
            return match scope.find(std::slice::from_ref(&name.value)) {
                Ok(Some(lineage)) => {
                    self.used(lineage.columns(), place);
                    Ok(())
                }
                Ok(None) if known => Ok(()),
                Ok(None) => self.touch(expression, scope, ctes, place),
                Err(unknown) => Err(unknown),
            };
        }
        let aliases = with_aliases(outputs, scope);
        self.touch(expression, &aliases, ctes, place)
    }

    fn having(
        &mut self,
        having: &Expr,
        outputs: &[Output],
        scope: &Scope<'_>,
        ctes: &[Relation],
    ) -> Found<()> {
        let aliases = with_aliases(outputs, scope);
        self.touch(having, &aliases, ctes, Place::Having)
    }

    fn limit(&mut self, limit: &LimitClause, scope: &Scope<'_>, ctes: &[Relation]) -> Found<()> {
        let expressions = match limit {
            LimitClause::LimitOffset { limit, offset, limit_by } if limit_by.is_empty() => {
                [limit.as_ref(), offset.as_ref().map(|offset| &offset.value)]
            }
            LimitClause::OffsetCommaLimit { offset, limit } => [Some(offset), Some(limit)],
            LimitClause::LimitOffset { .. } => return Err(Unknown::Construct("LIMIT BY")),
        };
        for expression in expressions.into_iter().flatten() {
            self.touch(expression, scope, ctes, Place::Other)?;
        }
        Ok(())
    }
}

/// A scope in which the outputs' aliases can be named too: a name that both have counts as both.
fn with_aliases<'o>(outputs: &[Output], scope: &Scope<'o>) -> Scope<'o> {
    let mut scope = scope.clone();
    let mut extra: Vec<Output> = Vec::new();
    for output in outputs.iter().filter(|output| output.name.is_some()) {
        let name = output.name.clone().unwrap_or_default();
        let folded = fold(&name);
        let mut shadowed = false;
        for column in scope.relations.iter_mut().flat_map(|relation| &mut relation.columns) {
            if column.name.as_ref().is_some_and(|known| fold(known) == folded) {
                column.lineage = either(column.lineage.clone(), output.lineage.clone());
                shadowed = true;
            }
        }
        if !shadowed
            && !extra.iter().any(|known| known.name.as_ref().is_some_and(|n| fold(n) == folded))
        {
            extra.push(output.clone());
        }
    }
    scope.relations.push(Relation::made("", extra, false));
    scope
}

fn constraint(join: &Join) -> Found<&JoinConstraint> {
    match &join.join_operator {
        JoinOperator::Join(on)
        | JoinOperator::Inner(on)
        | JoinOperator::Left(on)
        | JoinOperator::LeftOuter(on)
        | JoinOperator::Right(on)
        | JoinOperator::RightOuter(on)
        | JoinOperator::CrossJoin(on)
        | JoinOperator::StraightJoin(on)
            if !join.global =>
        {
            Ok(on)
        }
        _ => Err(Unknown::Construct("this form of a join")),
    }
}

/// The parts of a dotted name.
pub(super) fn parts(name: &ObjectName) -> Found<Vec<String>> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(name) => Ok(name.value.clone()),
        ObjectNamePart::Function(_) => Err(Unknown::Construct("a computed name")),
    };
    name.0.iter().map(part).collect()
}

/// `ORDER BY 2`.
fn position(expression: &Expr) -> Option<usize> {
    match expression {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        Expr::Nested(inner) => position(inner),
        _ => None,
    }
}

fn is_plain_wildcard(options: &sqlparser::ast::WildcardAdditionalOptions) -> bool {
    options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none()
}

/// Clauses of other dialects that the parser takes.
fn check_plain(select: &Select) -> Found<()> {
    let odd = select.top.is_some()
        || select.exclude.is_some()
        || select.into.is_some()
        || select.prewhere.is_some()
        || select.qualify.is_some()
        || select.value_table_mode.is_some()
        || !select.lateral_views.is_empty()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || !select.named_window.is_empty();
    if odd { Err(Unknown::Construct("this clause of a SELECT")) } else { Ok(()) }
}
