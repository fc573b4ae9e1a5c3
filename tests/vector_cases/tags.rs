//! A signature made for one kind of object is worth nothing for another.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::frame::event;
use super::link::pair;
use super::play::Play;
use crate::forge::Party;
use crate::forge::value::bin;

pub fn write(book: &mut Book) {
    for tag in Tag::ALL {
        let name = tag.name();
        let right = |natural: Tag, refused: Claim| if tag == natural { Allow } else { refused };
        let about = format!("A header signed under the tag {name}");
        let claim = right(Tag::Envelope, deny(BAD_SIGNATURE));
        book.case(&format!("envelope-as-{name}"), &about, claim, || {
            Play::message(&event().edit(|l| l.tag = tag))
        });
        let about = format!("A root grant signed under the tag {name}");
        let claim = right(Tag::RootGrant, deny_at(BAD_SIGNATURE, 0));
        book.case(&format!("root-grant-as-{name}"), &about, claim, || {
            Play::chain(&pair().edit(0, |link| link.tag = Some(tag)))
        });
        let about = format!("A delegation signed under the tag {name}");
        let claim = right(Tag::Delegation, deny_at(BAD_SIGNATURE, 1));
        book.case(&format!("delegation-as-{name}"), &about, claim, || {
            Play::chain(&pair().edit(1, |link| link.tag = Some(tag)))
        });
    }
    let about = "Signed without any tag";
    book.case("envelope-without-tag", about, deny(BAD_SIGNATURE), || {
        let letter = event();
        let bare = letter.signer.sign_raw(&letter.header_encoded());
        Play::message(&letter.edit(|l| l.signature = Some(bin(bare))))
    });
    for (index, what) in ["root-grant", "delegation"].into_iter().enumerate() {
        let claim = deny_at(BAD_SIGNATURE, index as u8);
        book.case(&format!("{what}-without-tag"), about, claim, || {
            let chain = pair();
            let signer = if index == 0 {
                chain.issuer.clone()
            } else {
                Party::named("alice")
            };
            let bare = signer.sign_raw(&chain.bodies()[index]);
            Play::chain(&chain.edit(index, |link| link.signature = Some(bin(bare))))
        });
    }
    let about = "The tag stands before the body, not after it, and ends in NUL bytes";
    book.case("envelope-tag-behind", about, deny(BAD_SIGNATURE), || {
        let letter = event();
        let input = [&letter.header_encoded()[..], &Tag::Envelope.bytes()].concat();
        let odd = letter.signer.sign_raw(&input);
        Play::message(&letter.edit(|l| l.signature = Some(bin(odd))))
    });
    book.case("envelope-tag-unpadded", about, deny(BAD_SIGNATURE), || {
        let letter = event();
        let input = [b"\xfftrustmesh/1 envelope", &letter.header_encoded()[..]].concat();
        let odd = letter.signer.sign_raw(&input);
        Play::message(&letter.edit(|l| l.signature = Some(bin(odd))))
    });
    book.case(
        "envelope-object-id-signed",
        about,
        deny(BAD_SIGNATURE),
        || {
            let letter = event();
            let odd = letter.signer.sign(Tag::Envelope, &letter.id().0);
            Play::message(&letter.edit(|l| l.signature = Some(bin(odd))))
        },
    );
}
