//! Who is asking, as their certificate says, and what that role may ask. It never looks at the payload.

use crate::command::{Command, Query};
use crate::id::{CallerId, SchoolId};

/// What a caller is, and so what it may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A till in a canteen: sells, refunds, asks for a card's balance.
    Till,
    /// The portal: what parents may do with their accounts.
    Portal,
    /// A school's secretary: opens accounts, issues and blocks cards at one school.
    Secretary,
    /// The operator: everything but selling.
    Operator,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Role; 4] = [Role::Till, Role::Portal, Role::Secretary, Role::Operator];

    /// The word for it in certificates, settings and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Till => "till",
            Role::Portal => "portal",
            Role::Secretary => "secretary",
            Role::Operator => "operator",
        }
    }

    /// The role with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    /// May this role ask for `command`?
    #[must_use]
    pub const fn may(self, command: &Command) -> bool {
        match command {
            Command::Purchase { .. } => matches!(self, Role::Till),
            Command::Refund { .. } => matches!(self, Role::Till | Role::Operator),
            Command::TopUp { .. }
            | Command::Transfer { .. }
            | Command::RequestPayout { .. }
            | Command::MarkPayoutSent { .. }
            | Command::MarkPayoutDone { .. }
            | Command::ReturnPayout { .. }
            | Command::AgreeAutoTopUp { .. }
            | Command::CancelAutoTopUp { .. }
            | Command::ReportChargeFailed { .. } => matches!(self, Role::Portal | Role::Operator),
            Command::Open { .. } | Command::SetCreditLimit { .. } | Command::Correct { .. } | Command::Close { .. } => {
                matches!(self, Role::Secretary | Role::Operator)
            }
            Command::BindCard { .. }
            | Command::Block { .. }
            | Command::Activate { .. }
            | Command::SetDailyLimit { .. } => {
                matches!(self, Role::Portal | Role::Secretary | Role::Operator)
            }
        }
    }

    /// May this role ask `query`?
    #[must_use]
    pub const fn may_query(self, query: &Query) -> bool {
        match query {
            Query::CardBalance { .. } => true,
            Query::Wishes { .. } => matches!(self, Role::Portal | Role::Operator),
            Query::AccountBalance { .. } | Query::Statement { .. } => {
                matches!(self, Role::Portal | Role::Secretary | Role::Operator)
            }
        }
    }
}

/// A caller: who, in which role, at which school.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Its number, unique in the installation.
    pub id: CallerId,
    /// Its role.
    pub role: Role,
    /// Its school; 0 for all of them.
    pub school: SchoolId,
}

impl Caller {
    /// Is an account of `school` this caller's business?
    #[must_use]
    pub fn serves(&self, school: SchoolId) -> bool {
        self.school == SchoolId(0) || self.school == school
    }
}
