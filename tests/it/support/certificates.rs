//! Certificates for TLS, made on the spot.

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::SanType;

/// Somebody who issues certificates.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate, for host names or addresses.
    pub fn server(&self, hosts: &[&str]) -> Issued {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        self.issue(CertificateParams::new(hosts).unwrap())
    }

    /// A client's certificate, which names it by a URI.
    pub fn client(&self, uri: &str) -> Issued {
        let mut params = CertificateParams::default();
        let uri = uri.try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}
