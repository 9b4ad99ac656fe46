"""The operator that registers a build in OBS as an upgrade package, once for each version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.text import what_is
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.task_io.dag_parameters import (
    list_or_template,
    object_or_template,
    text_or_template,
)
from iotda_provider.task_io.parameters import as_list, as_mapping, as_text, none_if_blank

_TEXTS = ("description", "custom_info", "module_name")


class CreateOtaPackageOperator(IoTDABaseOperator):
    """Register a file in OBS as an upgrade package, once for each product, type and version.

    The operator looks for the package before it creates it, and again after a lost answer or a
    refusal. So a second try, a cleared task and another DAG all get the same package. A package
    that is found is read and compared with the request: where its file is, the versions that it
    can be installed on, ``custom_info`` and the resource space, and the SHA-256 and the description
    if they are given. If it differs, the operator fails without a further try, names both values,
    and changes nothing.

    The IoTDA instance must have the right to read OBS (the agency ``iotda_admin_trust``).

    XComs: the return value ``{"package_id", "package_type", "product_id", "version", "app_id",
    "module_name", "source_versions", "description", "create_time", "created", "surplus"}``, and
    ``package_id``. ``created`` is false if the package existed before. ``surplus`` lists the ids of
    younger packages that are the same.

    :param app_id: resource space (templated)
    :param package_type: ``firmwarePackage``, ``softwarePackage`` or ``modulePackage`` (templated)
    :param product_id: the product whose devices the package is for (templated)
    :param version: 1 to 256 letters, digits, ``_``, ``-`` or ``.``; the version that the devices
        report after the upgrade (templated)
    :param obs_location: ``{"region_name", "bucket_name", "object_key", "sign"}``; ``sign`` is the
        file's SHA-256 as 64 hexadecimal digits, and may be left out or blank (templated)
    :param module_name: of a ``modulePackage``, which needs it (templated)
    :param support_source_versions: 1 to 20 versions from which devices can be upgraded, such as of
        a differential package; None, or a template that is rendered to JSON's ``null``: from any
        (templated)
    :param description: at most 1,024 characters (templated)
    :param custom_info: at most 4,096 characters, which devices get with the package (templated)
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        "app_id",
        "package_type",
        "product_id",
        "version",
        "obs_location",
        "support_source_versions",
        *_TEXTS,
        *CONNECTION_FIELDS,
    )

    def __init__(
        self,
        *,
        app_id: str,
        package_type: str,
        product_id: str,
        version: str,
        obs_location: Mapping[str, str | None] | str,
        support_source_versions: Any = None,
        description: str | None = None,
        custom_info: str | None = None,
        module_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.app_id = text_or_template(app_id, "app_id")
        self.package_type = text_or_template(package_type, "package_type")
        self.product_id = text_or_template(product_id, "product_id")
        self.version = text_or_template(version, "version")
        self.obs_location = object_or_template(obs_location, "obs_location")
        self.support_source_versions = list_or_template(
            support_source_versions, "support_source_versions", optional=True
        )
        # Decided here: whatever a template renders to later never means "left out".
        self._is_for_any = support_source_versions is None
        self.description = text_or_template(description, "description", optional=True)
        self.custom_info = text_or_template(custom_info, "custom_info", optional=True)
        self.module_name = text_or_template(module_name, "module_name", optional=True)

    def execute(self, context: Context) -> dict[str, Any]:
        location = as_mapping(self.obs_location, "obs_location")
        with self.hook() as hook:
            made = hook.create_ota_package_once(
                app_id=as_text(self.app_id, "app_id"),
                package_type=as_text(self.package_type, "package_type"),
                product_id=as_text(self.product_id, "product_id"),
                version=as_text(self.version, "version"),
                obs_location={**location, "sign": none_if_blank(location.get("sign"))},
                support_source_versions=self._source_versions(),
                **{name: none_if_blank(getattr(self, name)) for name in _TEXTS},
            )
        package = made.package
        context["ti"].xcom_push(key="package_id", value=package.package_id)
        self.log.info(
            "%s upgrade package %s: the %s %s of product %s.",
            "Created" if made.created else "Found",
            package.package_id,
            package.package_type,
            package.version,
            package.product_id,
        )
        if made.surplus:
            self.log.error(
                "The same package is registered %d times: used %s, the oldest. Delete %s.",
                1 + len(made.surplus),
                package.package_id,
                ", ".join(made.surplus[:10]),
            )
        return {**package.to_dict(), "created": made.created, "surplus": list(made.surplus)}

    def _source_versions(self) -> list[Any] | None:
        """The versions that it can be installed on; None: any, if the DAG says so.

        :raises IoTDAConfigError: a template was rendered to nothing: a differential package would
            be installed on versions that it is not for
        """
        versions = self.support_source_versions
        if self._is_for_any or (isinstance(versions, str) and versions.strip() == "null"):
            return None
        if none_if_blank(versions) is None:
            raise IoTDAConfigError(
                f"support_source_versions was rendered to nothing: {what_is(versions)}. Leave it "
                "out, or render null, if devices of any version can be upgraded."
            )
        return as_list(versions, "support_source_versions")
