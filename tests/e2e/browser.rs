//! A browser without a screen: asks for pages, keeps one cookie, follows nothing.

use reqwest::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Response, StatusCode};

use crate::installation::*;

pub const PASSWORD: &str = "smørrebrød og sild";

pub struct Browser {
    client: Client,
    portal: String,
    pub cookie: String,
    /// The session's, which every form carries.
    pub token: String,
}

impl Browser {
    pub fn new(server: &Server) -> Browser {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Browser { client, portal: server.portal.clone(), cookie: String::new(), token: String::new() }
    }

    pub async fn logged_in(server: &Server, mail: &str, account: u64) -> Browser {
        let mut browser = Browser::new(server);
        let answer = browser.post("/log-paa", &[("mail", mail), ("password", PASSWORD)]).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
        browser.cookie = cookie.split(';').next().unwrap().to_owned();
        let page = browser.get(&format!("/konto/{account}")).await.text().await.unwrap();
        browser.token = page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        browser
    }

    pub async fn get(&self, path: &str) -> Response {
        self.try_get(path).await.unwrap()
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Response {
        self.try_post(path, form).await.unwrap()
    }

    /// Of a server that may be gone.
    pub async fn try_get(&self, path: &str) -> reqwest::Result<Response> {
        self.client.get(format!("{}{path}", self.portal)).header(COOKIE, &self.cookie).send().await
    }

    pub async fn try_post(&self, path: &str, form: &[(&str, &str)]) -> reqwest::Result<Response> {
        let request = self.client.post(format!("{}{path}", self.portal)).header(COOKIE, &self.cookie);
        request.form(form).send().await
    }

    /// Asks for a login to a pupil's account.
    pub async fn sign_up(&self, cpr: &str, card: &str, mail: &str) -> Response {
        let fields = [
            ("name", "Anna"),
            ("address", "Testvej 1"),
            ("cpr", cpr),
            ("postcode", "5000"),
            ("city", "Odense"),
            ("mail", mail),
            ("card", card),
        ];
        self.post("/opret", &fields).await
    }

    /// A form with a file in it.
    pub async fn post_multipart(&self, path: &str, form: &[(&str, &str)]) -> Response {
        let part = |(name, value): &(&str, &str)| {
            let file = if *name == "file" { "; filename=\"x.png\"" } else { "" };
            format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n")
        };
        let body: String = form.iter().map(part).chain(["--edge--\r\n".to_owned()]).collect();
        let request = self.client.post(format!("{}{path}", self.portal)).header(COOKIE, &self.cookie);
        request.header(CONTENT_TYPE, "multipart/form-data; boundary=edge").body(body).send().await.unwrap()
    }

    /// Pays into an account up to the provider's window, and pays there. Returns the number of the order; nobody comes back to the shop.
    pub async fn pay_in(&self, account: u64, kroner: &str, card: &str) -> String {
        let window = self.open_window(account, kroner).await;
        self.pay(&window, card).await;
        window.order
    }

    pub async fn open_window(&self, account: u64, kroner: &str) -> PaymentWindow {
        let url = self.order(&format!("/konto/{account}/indbetal"), kroner).await;
        let list = self.get(&format!("/konto/{account}/betalinger")).await.text().await.unwrap();
        let order = list.split("/ordre/").nth(1).unwrap().split('"').next().unwrap().to_owned();
        PaymentWindow { url, order }
    }

    /// Asks for automatic top-up, up to the provider's window, in which the card is saved.
    pub async fn open_agreement(&self, account: u64, kroner: &str) -> PaymentWindow {
        PaymentWindow { url: self.order(&format!("/konto/{account}/auto-optank"), kroner).await, order: String::new() }
    }

    /// Sends the form on that page; where the provider's window is.
    async fn order(&self, page: &str, kroner: &str) -> String {
        let text = self.get(page).await.text().await.unwrap();
        let form = Browser::hidden(&text, "form");
        let fields = [
            ("token", self.token.as_str()),
            ("form", &form),
            ("amount", kroner),
            ("consent", "yes"),
            ("receipt", "kvittering@example.dk"),
        ];
        let answer = self.post(page, &fields).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{}", answer.text().await.unwrap());
        answer.headers()[LOCATION].to_str().unwrap().to_owned()
    }

    pub async fn pay(&self, window: &PaymentWindow, card: &str) {
        let fields = [("number", card), ("expiry", "12/39"), ("check", "123"), ("do", "pay")];
        let answer = self.client.post(&window.url).form(&fields).send().await.unwrap();
        let page = answer.text().await.unwrap();
        assert!(page.contains("Betalingen er gennemført."), "{page}");
    }

    /// A hidden field of a page's form.
    pub fn hidden(page: &str, name: &str) -> String {
        let after = page.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no {name}"));
        after.split('"').next().unwrap().to_owned()
    }
}

/// A window of the payment provider that is open.
pub struct PaymentWindow {
    pub url: String,
    pub order: String,
}

/// Two families with an account and 500 kr. each.
pub fn two_parents() -> Installation {
    let home = Installation::new();
    home.import(2, 500);
    home.add_parent("mor@example.dk", "1");
    home.add_parent("far@example.dk", "2");
    home
}
