//! What a page says when it cannot be shown. A parent learns what to do and that the money is safe; the log learns the reason.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::engine_link::EngineGone;
use crate::views;

/// Why a page cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortalError {
    /// There is no such page, or it is somebody else's.
    #[error("not found")]
    NotFound,
    /// A form that does not come from a page of this session.
    #[error("the form's token is wrong")]
    ForgedForm,
    /// The engine does not answer.
    #[error(transparent)]
    Engine(#[from] EngineGone),
    /// The payment provider does not answer.
    #[error("the payment provider: {0}")]
    Provider(String),
    /// Too many at once; a browser asks again by itself.
    #[error("too many at once")]
    TooMany,
    /// Something is broken here.
    #[error("{0}")]
    Internal(String),
}

impl IntoResponse for PortalError {
    fn into_response(self) -> Response {
        let status = match self {
            PortalError::NotFound => StatusCode::NOT_FOUND,
            PortalError::ForgedForm => StatusCode::FORBIDDEN,
            PortalError::TooMany => StatusCode::TOO_MANY_REQUESTS,
            PortalError::Engine(_) | PortalError::Provider(_) => StatusCode::SERVICE_UNAVAILABLE,
            PortalError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if matches!(self, PortalError::TooMany) {
            metrics::counter!("frokost_portal_too_many_total").increment(1);
        }
        if matches!(self, PortalError::ForgedForm) {
            tracing::info!(target: "security", event = "forged_form", "security");
        }
        if status.is_server_error() {
            tracing::error!(error = %self, "a page could not be shown");
        }
        views::problem(status)
    }
}
