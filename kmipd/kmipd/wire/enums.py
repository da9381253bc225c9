"""The KMIP enumerations the server reasons about; the others are in :mod:`kmipd.wire.enum_table`. Names as in KMIP's XML."""

from __future__ import annotations

from enum import IntEnum


class Operation(IntEnum):
    """Operation: what a batch item asks for."""

    Create = 1
    CreateKeyPair = 2
    Register = 3
    ReKey = 4
    DeriveKey = 5
    Certify = 6
    ReCertify = 7
    Locate = 8
    Check = 9
    Get = 10
    GetAttributes = 11
    GetAttributeList = 12
    AddAttribute = 13
    ModifyAttribute = 14
    DeleteAttribute = 15
    ObtainLease = 16
    GetUsageAllocation = 17
    Activate = 18
    Revoke = 19
    Destroy = 20
    Archive = 21
    Recover = 22
    Validate = 23
    Query = 24
    Cancel = 25
    Poll = 26
    Notify = 27
    Put = 28
    ReKeyKeyPair = 29
    DiscoverVersions = 30
    Encrypt = 31
    Decrypt = 32
    Sign = 33
    SignatureVerify = 34
    MAC = 35
    MACVerify = 36
    RNGRetrieve = 37
    RNGSeed = 38
    Hash = 39
    CreateSplitKey = 40
    JoinSplitKey = 41
    Import = 42
    Export = 43
    Log = 44
    Login = 45
    Logout = 46
    DelegatedLogin = 47
    AdjustAttribute = 48
    SetAttribute = 49
    SetEndpointRole = 50
    PKCS_11 = 51
    Interop = 52
    ReProvision = 53
    SetDefaults = 54
    SetConstraints = 55
    GetConstraints = 56
    QueryAsynchronousRequests = 57
    Process = 58
    Ping = 59


class ObjectType(IntEnum):
    """ObjectType: kinds of managed objects."""

    Certificate = 1
    SymmetricKey = 2
    PublicKey = 3
    PrivateKey = 4
    SplitKey = 5
    Template = 6
    SecretData = 7
    OpaqueObject = 8
    PGPKey = 9
    CertificateRequest = 10


class ResultStatus(IntEnum):
    """ResultStatus: how a batch item ended."""

    Success = 0
    OperationFailed = 1
    OperationPending = 2
    OperationUndone = 3


class ResultReason(IntEnum):
    """ResultReason: why a batch item failed."""

    ItemNotFound = 1
    ResponseTooLarge = 2
    AuthenticationNotSuccessful = 3
    InvalidMessage = 4
    OperationNotSupported = 5
    MissingData = 6
    InvalidField = 7
    FeatureNotSupported = 8
    OperationCanceledByRequester = 9
    CryptographicFailure = 10
    IllegalOperation = 11
    PermissionDenied = 12
    ObjectArchived = 13
    IndexOutOfBounds = 14
    ApplicationNamespaceNotSupported = 15
    KeyFormatTypeNotSupported = 16
    KeyCompressionTypeNotSupported = 17
    GeneralFailure = 256
    EncodingOptionError = 18
    KeyValueNotPresent = 19
    AttestationRequired = 20
    AttestationFailed = 21
    Sensitive = 22
    NotExtractable = 23
    ObjectAlreadyExists = 24
    InvalidTicket = 25
    UsageLimitExceeded = 26
    NumericRange = 27
    InvalidDataType = 28
    ReadOnlyAttribute = 29
    MultiValuedAttribute = 30
    UnsupportedAttribute = 31
    AttributeInstanceNotFound = 32
    AttributeNotFound = 33
    AttributeReadOnly = 34
    AttributeSingleValued = 35
    BadCryptographicParameters = 36
    BadPassword = 37
    CodecError = 38
    IllegalObjectType = 40
    IncompatibleCryptographicUsageMask = 41
    InternalServerError = 42
    InvalidAsynchronousCorrelationValue = 43
    InvalidAttribute = 44
    InvalidAttributeValue = 45
    InvalidCorrelationValue = 46
    InvalidCSR = 47
    InvalidObjectType = 48
    KeyWrapTypeNotSupported = 50
    MissingInitializationVector = 52
    NonUniqueNameAttribute = 53
    ObjectDestroyed = 54
    ObjectNotFound = 55
    NotAuthorised = 57
    ServerLimitExceeded = 58
    UnknownEnumeration = 59
    UnknownMessageExtension = 60
    UnknownTag = 61
    UnsupportedCryptographicParameters = 62
    UnsupportedProtocolVersion = 63
    WrappingObjectArchived = 64
    WrappingObjectDestroyed = 65
    WrappingObjectNotFound = 66
    WrongKeyLifecycleState = 67
    ProtectionStorageUnavailable = 68
    PKCS_11CodecError = 69
    PKCS_11InvalidFunction = 70
    PKCS_11InvalidInterface = 71
    PrivateProtectionStorageUnavailable = 72
    PublicProtectionStorageUnavailable = 73
    UnknownObjectGroup = 74
    ConstraintViolation = 75
    DuplicateProcessRequest = 76


class State(IntEnum):
    """State: the life cycle of a key (NIST SP 800-57 Part 1 §7)."""

    PreActive = 1
    Active = 2
    Deactivated = 3
    Compromised = 4
    Destroyed = 5
    DestroyedCompromised = 6


class QueryFunction(IntEnum):
    """QueryFunction: what Query is asked."""

    QueryOperations = 1
    QueryObjects = 2
    QueryServerInformation = 3
    QueryApplicationNamespaces = 4
    QueryExtensionList = 5
    QueryExtensionMap = 6
    QueryAttestationTypes = 7
    QueryRNGs = 8
    QueryValidations = 9
    QueryProfiles = 10
    QueryCapabilities = 11
    QueryClientRegistrationMethods = 12
    QueryDefaultsInformation = 13
    QueryStorageProtectionMasks = 14


class KeyFormatType(IntEnum):
    """KeyFormatType: how key material is encoded."""

    Raw = 1
    Opaque = 2
    PKCS_1 = 3
    PKCS_8 = 4
    X_509 = 5
    ECPrivateKey = 6
    TransparentSymmetricKey = 7
    TransparentDSAPrivateKey = 8
    TransparentDSAPublicKey = 9
    TransparentRSAPrivateKey = 10
    TransparentRSAPublicKey = 11
    TransparentDHPrivateKey = 12
    TransparentDHPublicKey = 13
    TransparentECDSAPrivateKey = 14
    TransparentECDSAPublicKey = 15
    TransparentECDHPrivateKey = 16
    TransparentECDHPublicKey = 17
    TransparentECMQVPrivateKey = 18
    TransparentECMQVPublicKey = 19
    TransparentECPrivateKey = 20
    TransparentECPublicKey = 21
    PKCS_12 = 22
    PKCS_10 = 23


class CryptographicAlgorithm(IntEnum):
    """CryptographicAlgorithm: what a key is for."""

    DES = 1
    DES3 = 2
    AES = 3
    RSA = 4
    DSA = 5
    ECDSA = 6
    HMAC_SHA1 = 7
    HMAC_SHA224 = 8
    HMAC_SHA256 = 9
    HMAC_SHA384 = 10
    HMAC_SHA512 = 11
    HMAC_MD5 = 12
    DH = 13
    ECDH = 14
    ECMQV = 15
    Blowfish = 16
    Camellia = 17
    CAST5 = 18
    IDEA = 19
    MARS = 20
    RC2 = 21
    RC4 = 22
    RC5 = 23
    SKIPJACK = 24
    Twofish = 25
    EC = 26
    OneTimePad = 27
    ChaCha20 = 28
    Poly1305 = 29
    ChaCha20Poly1305 = 30
    SHA3_224 = 31
    SHA3_256 = 32
    SHA3_384 = 33
    SHA3_512 = 34
    HMAC_SHA3_224 = 35
    HMAC_SHA3_256 = 36
    HMAC_SHA3_384 = 37
    HMAC_SHA3_512 = 38
    SHAKE_128 = 39
    SHAKE_256 = 40
    ARIA = 41
    SEED = 42
    SM2 = 43
    SM3 = 44
    SM4 = 45
    GOSTR34_10_2012 = 46
    GOSTR34_11_2012 = 47
    GOSTR34_13_2015 = 48
    GOST28147_89 = 49
    XMSS = 50
    SPHINCS_256 = 51
    McEliece = 52
    McEliece_6960119 = 53
    McEliece_8192128 = 54
    Ed25519 = 55
    Ed448 = 56


class NameType(IntEnum):
    """NameType: how a name is read."""

    UninterpretedTextString = 1
    URI = 2


class RevocationReasonCode(IntEnum):
    """RevocationReasonCode: why an object is revoked."""

    Unspecified = 1
    KeyCompromise = 2
    CACompromise = 3
    AffiliationChanged = 4
    Superseded = 5
    CessationOfOperation = 6
    PrivilegeWithdrawn = 7


class LinkType(IntEnum):
    """LinkType: how one object relates to another."""

    CertificateLink = 0x101
    PublicKeyLink = 0x102
    PrivateKeyLink = 0x103
    DerivationBaseObjectLink = 0x104
    DerivedKeyLink = 0x105
    ReplacementObjectLink = 0x106
    ReplacedObjectLink = 0x107
    ParentLink = 0x108
    ChildLink = 0x109
    PreviousLink = 0x10A
    NextLink = 0x10B
    PKCS_12CertificateLink = 0x10C
    PKCS_12PasswordLink = 0x10D
    WrappingKeyLink = 0x10E


class HashingAlgorithm(IntEnum):
    """HashingAlgorithm: hash functions."""

    MD2 = 1
    MD4 = 2
    MD5 = 3
    SHA_1 = 4
    SHA_224 = 5
    SHA_256 = 6
    SHA_384 = 7
    SHA_512 = 8
    RIPEMD_160 = 9
    Tiger = 10
    Whirlpool = 11
    SHA_512_224 = 12
    SHA_512_256 = 13
    SHA_3_224 = 14
    SHA_3_256 = 15
    SHA_3_384 = 16
    SHA_3_512 = 17


class BatchErrorContinuationOption(IntEnum):
    """BatchErrorContinuationOption: what happens after a failed item."""

    Continue = 1
    Stop = 2
    Undo = 3


class ObjectGroupMember(IntEnum):
    """ObjectGroupMember: which members of a group Locate returns."""

    GroupMemberFresh = 1
    GroupMemberDefault = 2


class SecretDataType(IntEnum):
    """SecretDataType: kinds of secret data."""

    Password = 1
    Seed = 2


class CertificateType(IntEnum):
    """CertificateType: kinds of certificates."""

    X_509 = 1
    PGP = 2


class WrappingMethod(IntEnum):
    """WrappingMethod: how a key is wrapped."""

    Encrypt = 1
    MACSign = 2
    EncryptThenMACSign = 3
    MACSignThenEncrypt = 4
    TR_31 = 5


class EncodingOption(IntEnum):
    """EncodingOption: what is wrapped."""

    NoEncoding = 1
    TTLVEncoding = 2


class BlockCipherMode(IntEnum):
    """BlockCipherMode: modes of operation."""

    CBC = 1
    ECB = 2
    PCBC = 3
    CFB = 4
    OFB = 5
    CTR = 6
    CMAC = 7
    CCM = 8
    GCM = 9
    CBC_MAC = 10
    XTS = 11
    AESKeyWrapPadding = 12
    NISTKeyWrap = 13
    X9_102AESKW = 14
    X9_102TDKW = 15
    X9_102AKW1 = 16
    X9_102AKW2 = 17
    AEAD = 18


class DigitalSignatureAlgorithm(IntEnum):
    """DigitalSignatureAlgorithm: signature algorithms of certificates."""

    MD2WithRSAEncryptionPKCS_1V1_5 = 1
    MD5WithRSAEncryptionPKCS_1V1_5 = 2
    SHA_1WithRSAEncryptionPKCS_1V1_5 = 3
    SHA_224WithRSAEncryptionPKCS_1V1_5 = 4
    SHA_256WithRSAEncryptionPKCS_1V1_5 = 5
    SHA_384WithRSAEncryptionPKCS_1V1_5 = 6
    SHA_512WithRSAEncryptionPKCS_1V1_5 = 7
    RSASSA_PSSPKCS_1V2_1 = 8
    DSAWithSHA_1 = 9
    DSAWithSHA224 = 10
    DSAWithSHA256 = 11
    ECDSAWithSHA_1 = 12
    ECDSAWithSHA224 = 13
    ECDSAWithSHA256 = 14
    ECDSAWithSHA384 = 15
    ECDSAWithSHA512 = 16
    SHA3_256WithRSAEncryption = 17
    SHA3_384WithRSAEncryption = 18
    SHA3_512WithRSAEncryption = 19


class KeyWrapType(IntEnum):
    """KeyWrapType: whether Get unwraps."""

    NotWrapped = 1
    AsRegistered = 2


class CredentialType(IntEnum):
    """CredentialType: kinds of credentials."""

    UsernameAndPassword = 1
    Device = 2
    Attestation = 3
    OneTimePassword = 4
    HashedPassword = 5
    Ticket = 6


class RNGAlgorithm(IntEnum):
    """RNGAlgorithm: random number generators."""

    Unspecified = 1
    FIPS186_2 = 2
    DRBG = 3
    NRBG = 4
    ANSIX9_31 = 5
    ANSIX9_62 = 6


class DestroyAction(IntEnum):
    """DestroyAction: what Destroy does."""

    Unspecified = 1
    KeyMaterialDeleted = 2
    KeyMaterialShredded = 3
    MetaDataDeleted = 4
    MetaDataShredded = 5
    Deleted = 6
    Shredded = 7


class UnwrapMode(IntEnum):
    """UnwrapMode: whether wrapped objects are unwrapped."""

    Unspecified = 1
    Processed = 2
    NotProcessed = 3


class ShreddingAlgorithm(IntEnum):
    """ShreddingAlgorithm: how material is shredded."""

    Unspecified = 1
    Cryptographic = 2
    Unsupported = 3
