//! Who is let in, and as what: the certificate alone decides.

use std::sync::Arc;

use frokost_engine::{Amount, Clock, Command, Outcome, Query, Rejection, Role, Sequence};
use frokost_net::wire::ALPN;
use frokost_net::{Authority, Bundle, Client, ClientError};
use rcgen::{CertificateParams, Issuer, KeyPair};

use crate::world::*;

#[tokio::test]
async fn a_till_is_welcomed_as_what_its_certificate_says_and_sells() {
    let world = World::new().await;
    let bundle = world.bundle("till-1", Role::Till, 1);
    let (client, welcome) = Client::connect(world.server.address(), &bundle).await.unwrap();
    assert_eq!((welcome.role, welcome.school), (Role::Till, SCHOOL));
    let sale = Command::Purchase { card: card(), amount: Amount::from_kroner(25) };
    let outcome = client.command(Sequence(1), sale).await.unwrap();
    assert!(matches!(outcome, Outcome::Approved(receipt) if receipt.balance == Amount::from_kroner(975)));
    assert_eq!(client.command(Sequence(1), sale).await.unwrap(), outcome, "sent twice, it counts once");
    client.close().await;
}

#[tokio::test]
async fn a_role_is_held_to_its_rights_and_a_till_to_its_school() {
    let world = World::new().await;
    let sale = Command::Purchase { card: card(), amount: Amount::from_kroner(25) };

    let stranger = world.bundle("till-2", Role::Till, 2);
    let (client, _) = Client::connect(world.server.address(), &stranger).await.unwrap();
    assert_eq!(client.command(Sequence(1), sale).await.unwrap(), Outcome::Rejected(Rejection::OtherSchool));
    let blocked = client.command(Sequence(2), Command::Block { account: PUPIL }).await.unwrap();
    assert_eq!(blocked, Outcome::Rejected(Rejection::NotAllowed));
    assert!(client.records(frokost_engine::Lsn(1)).await.is_err());
    let other_school = Outcome::Rejected(Rejection::OtherSchool);
    assert_eq!(client.picture(card()).await.unwrap(), Err(other_school), "a pupil of another school is shown");
    assert_eq!(client.find(PUPIL, "x".parse().unwrap()).await.unwrap(), Err(Outcome::Rejected(Rejection::NotAllowed)));
    for (name, role, school) in [("office", Role::Secretary, 2), ("operator", Role::Operator, 0)] {
        let (client, _) = Client::connect(world.server.address(), &world.bundle(name, role, school)).await.unwrap();
        let found = client.find(PUPIL, "Sør".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(found.pupils[0].logins, format!("{school} {PUPIL} Sør"), "what the desk was asked");
        let slow = "slow".parse().unwrap();
        let (one, other) = tokio::join!(client.find(PUPIL, slow), client.find(PUPIL, slow));
        let busy = [one.unwrap(), other.unwrap()].iter().filter(|found| **found == Err(Outcome::Busy)).count();
        assert_eq!(busy, 1, "one look-up at a time");
    }
    let own = world.bundle("till-1", Role::Till, 1);
    let (client, _) = Client::connect(world.server.address(), &own).await.unwrap();
    assert_eq!(client.picture(card()).await.unwrap().unwrap(), b"a picture");
    let unknown = client.picture("UNKNOWN1".parse().unwrap()).await.unwrap();
    assert_eq!(unknown, Err(Outcome::Rejected(Rejection::UnknownCard)));

    let portal = world.bundle("portal", Role::Portal, 0);
    let (client, _) = Client::connect(world.server.address(), &portal).await.unwrap();
    assert_eq!(client.command(Sequence(1), sale).await.unwrap(), Outcome::Rejected(Rejection::NotAllowed));
    assert_eq!(client.picture(card()).await.unwrap(), Err(Outcome::Rejected(Rejection::NotAllowed)));
    assert_eq!(client.find(PUPIL, "x".parse().unwrap()).await.unwrap(), Err(Outcome::Rejected(Rejection::NotAllowed)));
    let view = client.query(Query::AccountBalance { account: PUPIL }).await.unwrap();
    assert!(matches!(view, Outcome::View(view) if view.balance == Amount::from_kroner(1000)));
}

#[tokio::test]
async fn a_certificate_of_another_installation_is_refused() {
    let world = World::new().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::load_or_create(elsewhere.path()).unwrap();
    let (_, pem) = other.enrol("till-1", Role::Till, SCHOOL).unwrap();
    let foreign = Bundle::from_pem(pem.as_bytes()).unwrap();
    // It does not trust our server, and would not be trusted.
    let refused = Client::connect(world.server.address(), &foreign).await.unwrap_err();
    assert!(matches!(refused, ClientError::Untrusted { .. }), "{refused}");
    // A liar that trusts our server all the same:
    let ours = world.bundle("till-1", Role::Till, 1);
    let liar = Bundle { authority: ours.authority.clone(), ..foreign };
    let refused = Client::connect(world.server.address(), &liar).await.unwrap_err();
    assert!(matches!(refused, ClientError::Untrusted { .. }), "{refused}");
}

#[tokio::test]
async fn nobody_comes_in_without_a_certificate() {
    let world = World::new().await;
    let ours = world.bundle("till-1", Role::Till, 1);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ours.authority.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, world.server.address(), "frokost.internal").unwrap();
    // TLS 1.3 lets the client's half succeed; what matters is that nothing can be done.
    if let Ok(connection) = connecting.await {
        let mut read = [0; 1];
        let answered = match connection.open_bi().await {
            Ok((mut send, mut receive)) => {
                drop(send.write_all(&[0; 16]).await);
                receive.read_exact(&mut read).await.is_ok()
            }
            Err(_) => false,
        };
        assert!(!answered);
        let reason = connection.closed().await.to_string();
        assert!(reason.contains("certificate"), "{reason}");
    }
}

#[tokio::test]
async fn a_certificate_that_has_expired_or_names_nobody_is_refused() {
    let world = World::new().await;
    let ours = world.bundle("till-1", Role::Till, 1);
    let ca_key = KeyPair::from_pem(&std::fs::read_to_string(world.folder.path().join("ca.key")).unwrap()).unwrap();
    let mut authority = CertificateParams::default();
    authority.distinguished_name = rcgen::DistinguishedName::new();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "frokost installation");
    let issuer = Issuer::new(authority, ca_key);
    let issue = |expired: bool, uri: &str| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        if expired {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Bundle { certificate, key, authority: ours.authority.clone() }
    };
    let address = world.server.address();
    // The same bundle, unexpired and with a name on the list, is let in: so it is these two things that are refused.
    let till = ours.identity().unwrap().uri();
    Client::connect(address, &issue(false, &till)).await.unwrap();
    let expired = Client::connect(address, &issue(true, &till)).await.unwrap_err();
    assert!(expired.to_string().contains("expired"), "{expired}");
    // Another number, another role, another school than on the list, and what names nobody at all.
    for uri in [
        "frokost://till/77?school=1",
        &till.replace("till", "operator"),
        &till.replace("school=1", "school=2"),
        "https://example.org/",
    ] {
        let stranger = Client::connect(address, &issue(false, uri)).await.unwrap_err();
        assert!(matches!(stranger, ClientError::Unknown), "{uri}: {stranger}");
    }
}

#[tokio::test]
async fn who_is_taken_off_the_list_is_turned_out_and_who_is_put_on_it_comes_in_at_once() {
    let world = World::new().await;
    let address = world.server.address();
    let bundles = ["till-1", "till-2"].map(|name| world.bundle(name, Role::Till, 1));
    let (gone, _) = Client::connect(address, &bundles[0]).await.unwrap();
    let (stays, _) = Client::connect(address, &bundles[1]).await.unwrap();
    let list = world.folder.path().join("callers");
    let kept: String =
        std::fs::read_to_string(&list).unwrap().lines().skip(1).map(|line| format!("{line}\n")).collect();
    std::fs::write(&list, kept).unwrap();
    let newcomer = world.bundle("till-3", Role::Till, 1);
    // The newcomer's coming makes the server look again, and what it finds then is not forgotten for others.
    Client::connect(address, &newcomer).await.unwrap();
    let turned_out = async {
        while gone.ended().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(3), turned_out).await.unwrap();
    let refused = gone.query(Query::CardBalance { card: card() }).await.unwrap_err();
    assert!(matches!(refused, ClientError::Unknown), "{refused}");
    stays.query(Query::CardBalance { card: card() }).await.unwrap();
}

#[tokio::test]
async fn a_till_that_is_revoked_is_turned_out_and_no_other() {
    let world = World::new().await;
    let (lost, other) = (world.bundle("till-1", Role::Till, 1), world.bundle("till-2", Role::Till, 1));
    let address = world.server.address();
    let (thief, _) = Client::connect(address, &lost).await.unwrap();
    let (honest, _) = Client::connect(address, &other).await.unwrap();
    let sale = Command::Purchase { card: card(), amount: Amount::from_kroner(25) };
    let sold = thief.command(Sequence(1), sale).await.unwrap();
    world.authority.callers().revoke("till-1", SystemClock.now()).unwrap();
    // Whatever it does, or does not.
    let turned_out = async {
        while thief.ended().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(3), turned_out).await.unwrap();
    for refused in
        [thief.command(Sequence(2), sale).await.unwrap_err(), Client::connect(address, &lost).await.unwrap_err()]
    {
        assert!(matches!(refused, ClientError::Revoked), "{refused}");
    }
    assert!(matches!(honest.command(Sequence(1), sale).await.unwrap(), Outcome::Approved(_)));
    world.authority.callers().readmit("till-1").unwrap();
    let back = async {
        loop {
            if let Ok((client, _)) = Client::connect(address, &lost).await {
                return client;
            }
        }
    };
    let back = tokio::time::timeout(std::time::Duration::from_secs(3), back).await.unwrap();
    assert_eq!(back.command(Sequence(1), sale).await.unwrap(), sold, "what it sold before stands, once");
}

#[tokio::test]
async fn a_till_has_two_connections_and_a_third_takes_the_place_of_the_oldest() {
    let world = World::new().await;
    let bundle = world.bundle("till-1", Role::Till, 1);
    let address = world.server.address();
    let balance = Query::CardBalance { card: card() };
    let (first, _) = Client::connect(address, &bundle).await.unwrap();
    let (second, _) = Client::connect(address, &bundle).await.unwrap();
    first.query(balance).await.unwrap();
    // A till whose power failed comes back; what it left open must not keep it out.
    let (third, _) = Client::connect(address, &bundle).await.unwrap();
    third.query(balance).await.unwrap();
    second.query(balance).await.unwrap();
    let gone = first.query(balance).await.unwrap_err();
    assert!(gone.to_string().contains("a newer connection of this caller"), "{gone}");
    // A place that is given back is free.
    third.close().await;
    let (_fourth, _) = Client::connect(address, &bundle).await.unwrap();
    second.query(balance).await.unwrap();
}

#[tokio::test]
async fn where_no_server_is_the_message_says_so() {
    let world = World::new().await;
    let bundle = world.bundle("till-1", Role::Till, 1);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let error = Client::connect(address, &bundle).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no frokost server answers at {address}; is it running, and is the address right?")
    );
}
