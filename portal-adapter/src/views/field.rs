//! A field of a form: its label, what was typed, and what is wrong with it.

/// One field. `templates/fields.html` shows it.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) value: String,
    pub(crate) problem: Option<String>,
    pub(crate) hint: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) autocomplete: &'static str,
    pub(crate) numeric: bool,
    pub(crate) required: bool,
}

impl Field {
    pub(crate) fn new(name: &'static str, label: &'static str, value: &str) -> Field {
        Field {
            name,
            label,
            value: value.to_owned(),
            problem: None,
            hint: "",
            kind: "text",
            autocomplete: "off",
            numeric: false,
            required: true,
        }
    }

    /// A password: what was typed is never shown again.
    pub(crate) fn password(name: &'static str, label: &'static str, autocomplete: &'static str) -> Field {
        Field { kind: "password", autocomplete, ..Field::new(name, label, "") }
    }

    pub(crate) fn of_kind(self, kind: &'static str, autocomplete: &'static str) -> Field {
        Field { kind, autocomplete, ..self }
    }

    pub(crate) fn numeric(self) -> Field {
        Field { numeric: true, ..self }
    }

    pub(crate) fn optional(self) -> Field {
        Field { required: false, ..self }
    }

    pub(crate) fn hint(self, hint: &'static str) -> Field {
        Field { hint, ..self }
    }

    pub(crate) fn problem(self, problem: Option<impl Into<String>>) -> Field {
        Field { problem: problem.map(Into::into), ..self }
    }

    /// What a screen reader says with it.
    pub(crate) fn described_by(&self) -> String {
        let problem = self.problem.as_ref().map(|_| format!("{}-problem", self.name));
        let hint = (!self.hint.is_empty()).then(|| format!("{}-hint", self.name));
        problem.into_iter().chain(hint).collect::<Vec<_>>().join(" ")
    }
}

/// Is something wrong with any of them?
pub(crate) fn any_problem(fields: &[Field]) -> bool {
    fields.iter().any(|field| field.problem.is_some())
}
