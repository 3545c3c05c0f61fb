//! What somebody who looks into a break-in needs to read: who came in, who was turned away, what was changed that guards money. Lines of
//! target `security`. A login is named by its number and nobody by name; the address is where the request came from.

use frokost_persistence::records::Login;

use crate::limits::Visitor;

/// One line. `login` is nobody's where nobody is known.
pub(crate) fn note(event: &'static str, login: Option<&Login>, visitor: Visitor) {
    let login = login.map_or(0, |login| login.number);
    tracing::info!(target: "security", event, login, address = %visitor, "security");
}
