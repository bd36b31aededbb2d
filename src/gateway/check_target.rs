//! `rowgate target check`.

use crate::config::Target;
use crate::control::TargetReport;
use crate::net::side::SideTarget;
use crate::schema::Catalog;

pub(super) fn report(
    _side: &SideTarget,
    target: &Target,
    _catalog: Option<&Catalog>,
) -> TargetReport {
    TargetReport { name: target.name.clone(), ..TargetReport::default() }
}
