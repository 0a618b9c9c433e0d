/* Plain tables after systemd.directives(7) and systemd.exec(5), PROCESS EXIT CODES. */
#include "manager/directives.h"

static const char *const unit_directives[] = {"Upholds", "OnSuccess", "OnFailure", "PropagatesReloadTo",
	"ReloadPropagatedFrom", "PropagatesStopTo", "StopPropagatedFrom", "JoinsNamespaceOf",
	"RequiresMountsFor", "OnSuccessJobMode", "OnFailureJobMode", "OnFailureIsolate", "IgnoreOnIsolate",
	"StopWhenUnneeded", "RefuseManualStart", "RefuseManualStop", "AllowIsolate", "SurviveFinalKillSignal",
	"CollectMode", "FailureAction", "SuccessAction", "FailureActionExitStatus", "SuccessActionExitStatus",
	"JobTimeoutSec", "JobRunningTimeoutSec", "JobTimeoutAction", "JobTimeoutRebootArgument",
	"StartLimitAction", "RebootArgument", "RequiresOverridable", "RequisiteOverridable", "BindTo"};

static const char *const service_directives[] = {"ExitType", "GuessMainPID", "PIDFile", "BusName",
	"ExecReload", "RestartMode", "RestartSteps", "RestartMaxDelaySec", "TimeoutAbortSec",
	"TimeoutStartFailureMode", "TimeoutStopFailureMode", "RuntimeMaxSec", "RuntimeRandomizedExtraSec",
	"WatchdogSec", "RootDirectoryStartOnly", "NonBlocking", "NotifyAccess", "Sockets",
	"FileDescriptorStoreMax", "USBFunctionDescriptors", "USBFunctionStrings", "OOMPolicy", "OpenFile",
	"ReloadSignal", "PermissionsStartOnly", "ExecPaths", "NoExecPaths", "RootDirectory", "RootImage",
	"RootHash", "RootVerity", "MountAPIVFS", "ProtectProc", "ProcSubset", "BindPaths",
	"BindReadOnlyPaths", "MountImages", "ExtensionImages", "DynamicUser", "SupplementaryGroups",
	"PAMName", "CapabilityBoundingSet", "AmbientCapabilities", "NoNewPrivileges", "SecureBits",
	"SELinuxContext", "AppArmorProfile", "SmackProcessLabel", "CoredumpFilter", "KeyringMode",
	"OOMScoreAdjust", "TimerSlackNSec", "Personality", "CPUSchedulingPolicy", "CPUSchedulingPriority",
	"CPUSchedulingResetOnFork", "CPUAffinity", "NUMAPolicy", "NUMAMask", "IOSchedulingClass",
	"IOSchedulingPriority", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "TemporaryFileSystem",
	"PrivateTmp", "PrivateDevices", "PrivateNetwork", "NetworkNamespacePath", "PrivateIPC",
	"IPCNamespacePath", "PrivateUsers", "ProtectHostname", "ProtectClock", "ProtectKernelTunables",
	"ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "RestrictAddressFamilies",
	"RestrictFileSystems", "RestrictNamespaces", "LockPersonality", "MemoryDenyWriteExecute",
	"RestrictRealtime", "RestrictSUIDSGID", "RemoveIPC", "PrivateMounts", "MountFlags",
	"SystemCallFilter", "SystemCallErrorNumber", "SystemCallArchitectures", "SystemCallLog",
	"PassEnvironment", "StandardInput", "StandardInputText", "StandardInputData", "LogLevelMax",
	"LogExtraFields", "LogRateLimitIntervalSec", "LogRateLimitBurst", "LogFilterPatterns", "LogNamespace",
	"SyslogFacility", "SyslogLevel", "SyslogLevelPrefix", "TTYPath", "TTYReset", "TTYVHangup", "TTYRows",
	"TTYColumns", "TTYVTDisallocate", "LoadCredential", "LoadCredentialEncrypted", "SetCredential",
	"SetCredentialEncrypted", "UtmpIdentifier", "UtmpMode", "LimitCPU", "LimitFSIZE", "LimitDATA",
	"LimitSTACK", "LimitCORE", "LimitRSS", "LimitNOFILE", "LimitAS", "LimitNPROC", "LimitMEMLOCK",
	"LimitLOCKS", "LimitSIGPENDING", "LimitMSGQUEUE", "LimitNICE", "LimitRTPRIO", "LimitRTTIME",
	"ProtectSystem", "ProtectHome", "RuntimeDirectory", "StateDirectory", "CacheDirectory",
	"LogsDirectory", "ConfigurationDirectory", "RuntimeDirectoryMode", "StateDirectoryMode",
	"CacheDirectoryMode", "LogsDirectoryMode", "ConfigurationDirectoryMode", "RuntimeDirectoryPreserve",
	"TimeoutCleanSec", "RestartKillSignal", "WatchdogSignal", "Slice", "Delegate", "DisableControllers",
	"CPUAccounting", "CPUWeight", "StartupCPUWeight", "CPUShares", "StartupCPUShares", "CPUQuota",
	"CPUQuotaPeriodSec", "AllowedCPUs", "AllowedMemoryNodes", "MemoryAccounting", "MemoryMin",
	"MemoryLow", "MemoryHigh", "MemoryMax", "MemorySwapMax", "MemoryLimit", "TasksAccounting", "TasksMax",
	"IOAccounting", "IOWeight", "StartupIOWeight", "IODeviceWeight", "IOReadBandwidthMax",
	"IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax", "BlockIOAccounting", "BlockIOWeight",
	"BlockIODeviceWeight", "BlockIOReadBandwidth", "BlockIOWriteBandwidth", "IPAccounting",
	"IPAddressAllow", "IPAddressDeny", "IPIngressFilterPath", "IPEgressFilterPath", "DeviceAllow",
	"DevicePolicy", "ManagedOOMSwap", "ManagedOOMMemoryPressure", "StartLimitAction", "FailureAction",
	"RebootArgument", "SuccessAction"};

static bool is_in(struct slice name, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (slice_is(name, names[i]))
			return true;
	return false;
}

bool directive_is_known(struct slice section, struct slice name)
{
	if (slice_is(section, "Service"))
		return is_in(name, service_directives, ARRAY_LEN(service_directives));
	if (!slice_is(section, "Unit"))
		return false;
	return is_in(name, unit_directives, ARRAY_LEN(unit_directives)) ||
	       slice_starts_with(name, SLICE_LITERAL("Condition")) ||
	       slice_starts_with(name, SLICE_LITERAL("Assert"));
}

static const struct {
	int status;
	const char *name;
} statuses[] = {
	{0, "SUCCESS"},
	{1, "FAILURE"},
	{2, "INVALIDARGUMENT"},
	{3, "NOTIMPLEMENTED"},
	{4, "NOPERMISSION"},
	{5, "NOTINSTALLED"},
	{6, "NOTCONFIGURED"},
	{7, "NOTRUNNING"},
	{64, "USAGE"},
	{65, "DATAERR"},
	{66, "NOINPUT"},
	{67, "NOUSER"},
	{68, "NOHOST"},
	{69, "UNAVAILABLE"},
	{70, "SOFTWARE"},
	{71, "OSERR"},
	{72, "OSFILE"},
	{73, "CANTCREAT"},
	{74, "IOERR"},
	{75, "TEMPFAIL"},
	{76, "PROTOCOL"},
	{77, "NOPERM"},
	{78, "CONFIG"},
	{200, "CHDIR"},
	{201, "NICE"},
	{202, "FDS"},
	{203, "EXEC"},
	{204, "MEMORY"},
	{205, "LIMITS"},
	{206, "OOM_ADJUST"},
	{207, "SIGNAL_MASK"},
	{208, "STDIN"},
	{209, "STDOUT"},
	{210, "CHROOT"},
	{211, "IOPRIO"},
	{212, "TIMERSLACK"},
	{213, "SECUREBITS"},
	{214, "SETSCHEDULER"},
	{215, "CPUAFFINITY"},
	{216, "GROUP"},
	{217, "USER"},
	{218, "CAPABILITIES"},
	{219, "CGROUP"},
	{220, "SETSID"},
	{221, "CONFIRM"},
	{222, "STDERR"},
	{224, "PAM"},
	{225, "NETWORK"},
	{226, "NAMESPACE"},
	{227, "NO_NEW_PRIVILEGES"},
	{228, "SECCOMP"},
	{229, "SELINUX_CONTEXT"},
	{230, "PERSONALITY"},
	{231, "APPARMOR_PROFILE"},
	{232, "ADDRESS_FAMILIES"},
	{233, "RUNTIME_DIRECTORY"},
	{235, "CHOWN"},
	{236, "SMACK_PROCESS_LABEL"},
	{237, "KEYRING"},
	{238, "STATE_DIRECTORY"},
	{239, "CACHE_DIRECTORY"},
	{240, "LOGS_DIRECTORY"},
	{241, "CONFIGURATION_DIRECTORY"},
};

const char *exit_status_name(int status)
{
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		if (statuses[i].status == status)
			return statuses[i].name;
	return NULL;
}

int exit_status_from_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		if (strcmp(statuses[i].name, name) == 0)
			return statuses[i].status;
	return -1;
}
