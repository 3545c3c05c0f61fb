//! The opaque numbers things are known by. None of them says anything about a person, and none converts
//! silently into another: an LSN is not a count and a till is not an account.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// An account: what owns a balance. Never reused.
    AccountId(u64)
);
id!(
    /// A school. 0 stands for "every school" and belongs to portals and operators only.
    SchoolId(u32)
);
id!(
    /// Whoever may ask: a till, a portal, a secretary, an operator. Given at enrolment, written in the certificate.
    CallerId(u32)
);
id!(
    /// The caller's own running number of a command. A caller never uses one twice for different things.
    Sequence(u64)
);
id!(
    /// The number of a payment order, made by the portal; a top-up carries it and counts once.
    OrderNumber(u64)
);
id!(
    /// The number of a pay-out to a bank account, made by the portal.
    PayoutNumber(u64)
);
id!(
    /// The number of an agreement to charge a saved payment card, made by the portal.
    AgreementNumber(u64)
);
id!(
    /// An account's running number of its attempts to top itself up; the first is 1.
    Attempt(u32)
);
id!(
    /// A person as the caller knows them, for the audit trail; 0 is nobody in particular. Says nothing by itself.
    PersonId(u64)
);
id!(
    /// Log sequence number: the position of a record in the journal. The first record has 1, there are no gaps.
    Lsn(u64)
);

impl Lsn {
    /// Before the first record.
    pub const ZERO: Lsn = Lsn(0);

    /// The position right after this one.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0.checked_add(1).expect("2^64 records are not reached in the life of the sun"))
    }
}

/// The idempotency key: who asked, and the caller's own number of the request.
/// The same key always gets the same answer (see [`crate::dedup`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RequestKey {
    /// Who asked.
    pub caller: CallerId,
    /// The caller's running number.
    pub sequence: Sequence,
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.caller, self.sequence)
    }
}
